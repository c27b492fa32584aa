from __future__ import annotations

import time
from typing import Any

from pydantic import Field, ValidationError

from ..contract import WIRE_VERSION, Contract, ContractViolation, Whole, check_version
from ..outcome import Account, Answered
from ..owner import Owner
from ..privacy.seal import Purpose, Sealer
from ..usage import Usage
from .options import Cached, CacheScope

#: Endings of answers that are whole.
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})


class CachedAnswer(Contract):
    """A provider's answer, kept for equal calls; it is sealed for the scope that may share it."""

    v: int = WIRE_VERSION
    #: When the provider gave it, in Unix milliseconds by its worker's clock.
    made_ms: Whole
    model: str
    #: OpenAI's `chat.completion` JSON.
    response: dict[str, Any] = Field(repr=False)
    #: What it cost the job that paid for it.
    usage: Usage

    @classmethod
    def of(cls, answered: Answered) -> CachedAnswer:
        usage = Usage(**{name: getattr(answered.account, name) for name in Usage.model_fields})
        return cls(
            made_ms=time.time_ns() // 1_000_000,
            model=answered.model,
            response=answered.response,
            usage=usage,
        )

    def answered(self, account: Account, *, how: Cached) -> Answered:
        """The outcome of a job that this answers. `account` is of what the job itself took."""
        facts = {
            **{name: getattr(self.usage, name) for name in Usage.model_fields},
            "cost_usd": 0.0,
            "cached": how,
            "cache_age_s": max(round(time.time() - self.made_ms / 1000, 3), 0.0),
            "saved_usd": self.usage.cost_usd,
        }
        return Answered(account=account.model_copy(update=facts), model=self.model, response=self.response)

    def seal(self, sealer: Sealer, *, name: str, scope: CacheScope, owner: Owner) -> str:
        """The answer as text that opens under this name and in this scope alone."""
        return sealer.seal(self.model_dump_json(), **bound_to(name, scope, owner))

    @classmethod
    def open(cls, text: str, sealer: Sealer, *, name: str, scope: CacheScope, owner: Owner) -> CachedAnswer:
        """Raises `ContractViolation` when it does not open here, or is not an answer of this contract."""
        body = sealer.open(text, **bound_to(name, scope, owner))
        try:
            answer = cls.model_validate_json(body)
        except ValidationError:
            raise ContractViolation("the kept answer does not validate") from None
        check_version(answer.v, what="kept answer")
        return answer


def bound_to(name: str, scope: CacheScope, owner: Owner) -> dict[str, Any]:
    """What an entry of the cache is sealed for: it opens under this name and in this scope alone."""
    shared = Owner(
        org=owner.org,
        guild=owner.guild if scope != "org" else "-",
        agent=owner.agent if scope == "agent" else "-",
    )
    return {"purpose": Purpose.CACHE, "job_id": f"{scope}:{name}", "owner": shared}


def keepable(answered: Answered, asked_model: str) -> bool:
    """Whether the answer is worth keeping: whole, and of the model that was asked, not of a fallback."""
    choices = answered.response.get("choices") or ()
    reasons = {choice.get("finish_reason") for choice in choices if isinstance(choice, dict)}
    # A fallback's answer is of a later attempt than the first of its model; the account names the models.
    models = {attempt.model for attempt in answered.account.attempts}
    return bool(reasons) and reasons <= _WHOLE and models <= {asked_model}
