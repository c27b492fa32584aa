from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal

from ..call import CallKind
from ..outcome import Answered, Outcome
from ..owner import Owner
from ..usage import PICO
from ..vectors import OBJECT as EMBEDDINGS

#: Of one kind, in one job of a tenant's own endpoint: more than any model reads or writes at once.
MOST_TOLD_TOKENS = 10_000_000


@dataclass(frozen=True)
class Charge:
    """What a job adds to the books of its day."""

    owner: Owner
    model: str
    #: None when the model has no price.
    pico_usd: int | None
    prompt_tokens: int
    completion_tokens: int
    kind: CallKind = CallKind.CHAT
    #: It made no call of its own: an equal one was paid for in its place.
    cached: bool = False
    #: What others had paid for all or a part of it, None when that has no price.
    saved_pico_usd: int | None = None
    #: The job called an endpoint that it named itself: its tokens are that server's word, and cost nothing.
    own_endpoint: bool = False

    def told_by_the_tenant(self) -> Charge:
        """The same, as the word of an endpoint that the job named itself: bounded, and of no cost to us."""
        return replace(
            self,
            pico_usd=0,
            prompt_tokens=min(self.prompt_tokens, MOST_TOLD_TOKENS),
            completion_tokens=min(self.completion_tokens, MOST_TOLD_TOKENS),
            saved_pico_usd=None,
            own_endpoint=True,
        )

    @classmethod
    def of(cls, owner: Owner, outcome: Outcome) -> Charge | None:
        """None when nothing is known to have been consumed."""
        account = outcome.account
        if account.cost_usd is None and account.prompt_tokens is None and account.completion_tokens is None:
            return None
        attempts = account.attempts
        model = outcome.model if isinstance(outcome, Answered) else attempts[-1].model if attempts else ""
        kind, saved_pico_usd = _kind(outcome), pico_usd(account.saved_usd)
        if account.cached:
            # The tokens are in the books of the job that paid for them.
            return cls(owner, model, 0, 0, 0, kind, cached=True, saved_pico_usd=saved_pico_usd)
        return cls(
            owner,
            model,
            pico_usd(account.cost_usd),
            account.prompt_tokens or 0,
            account.completion_tokens or 0,
            kind,
            saved_pico_usd=saved_pico_usd,
        )


def _kind(outcome: Outcome) -> CallKind:
    embeds = isinstance(outcome, Answered) and outcome.response.get("object") == EMBEDDINGS
    return CallKind.EMBEDDING if embeds else CallKind.CHAT


def pico_usd(cost_usd: float | None) -> int | None:
    """Dollars as whole picodollars; None for what is no amount."""
    if cost_usd is None or not math.isfinite(cost_usd):
        return None
    return int(Decimal(repr(cost_usd)).scaleb(PICO).to_integral_value())


def usd(pico: int) -> Decimal:
    """Picodollars as dollars, exactly."""
    return Decimal(pico).scaleb(-PICO)
