from __future__ import annotations

from datetime import timedelta

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger

from ..provider.targets.credentials import Target
from .call_limits import CallLimits

#: The account is out of credit, which no short wait changes.
SPENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_SPENT_PAUSE = timedelta(minutes=10)
_OVERLOADED, _UNAVAILABLE, _PAYMENT_REQUIRED = 529, 503, 402


class Cooldowns:
    """Closes, to all workers, what a provider has just refused one of them."""

    def __init__(self, ledger: LimitLedger, limits: CallLimits, *, longest: timedelta) -> None:
        self._ledger, self._limits, self._longest = ledger, limits, longest

    async def note(self, target: Target, failure: ErrorEnvelope) -> bool:
        """Close what the failure is about. False where it is about nothing but the call itself."""
        scope, pause = _scope(failure)
        if scope is None or (scope == "model" and target.foreign):
            # A model's trouble at a tenant's own server is not that of the model everybody else calls.
            return False
        limit = self._limits.cooldowns(target)[scope]
        why = (
            " ".join(str(part) for part in (failure.provider_status, failure.code) if part)
            or failure.kind.value
        )
        await self._ledger.cool(limit, pause, longest=self._longest, why=why[:64])
        return True


def _scope(failure: ErrorEnvelope) -> tuple[str | None, timedelta | None]:
    asked = None if failure.retry_after_s is None else timedelta(seconds=failure.retry_after_s)
    if failure.code in SPENT_CODES or failure.provider_status == _PAYMENT_REQUIRED:
        return "key", _SPENT_PAUSE
    if failure.kind is ErrorKind.RATE_LIMIT and failure.provider_status == 429:
        return "key_and_model", asked
    if failure.provider_status == _OVERLOADED or (
        failure.provider_status == _UNAVAILABLE and asked is not None
    ):
        return "model", asked
    return None, None
