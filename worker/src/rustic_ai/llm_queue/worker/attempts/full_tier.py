"""A call at a tier that its provider has no room in: it waits, and goes at the default tier in time.

Nothing is billed for it, and it says nothing of the credential's other calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope

from ..provider.targets.credentials import Target
from .run_times import RunTimes

#: What OpenAI and Azure say of the flex tier when it is full. Other 429s are the credential's.
_FULL_CODE, _FULL_STATUS = "resource_unavailable", 429
_LONGEST_PAUSE_S = 60.0
#: A pause is up to so much longer, so that calls refused together do not return together.
_SPREAD = 0.1
#: What is kept for a call at the default tier: so many times what 95 of 100 take.
_SPARE = 1.5
#: Of a model that too little is known of: so much of the call's time, and no more than so many seconds.
_UNKNOWN_SHARE, _UNKNOWN_S = 1 / 3, 60.0
#: Less than this is not worth a wait.
_LEAST_S = 0.05


def is_full(failure: ErrorEnvelope, target: Target | None) -> bool:
    """Whether nothing but the asked tier had no room."""
    return (
        target is not None
        and target.service_tier == "flex"
        and (failure.provider_status, failure.code) == (_FULL_STATUS, _FULL_CODE)
    )


@dataclass(frozen=True, slots=True)
class FullTier:
    """How long a job waits for a tier that is full, and when it no longer does."""

    run_times: RunTimes
    #: Of the whole job, in seconds.
    timeout_s: float
    #: The longest that it may wait for limits, in seconds; None for the deadline.
    max_wait_s: float | None

    def is_over(self, records: Sequence[AttemptRecord], model: str, remaining_s: float) -> bool:
        """Whether the next call goes at the default tier: this one was full, and the deadline is near."""
        return bool(_refusals(records, model)) and self._spare_s(records, model, remaining_s) < _LEAST_S

    def pause_s(
        self,
        records: Sequence[AttemptRecord],
        model: str,
        *,
        remaining_s: float,
        retry_after_s: float | None,
        random: Callable[[], float],
    ) -> float:
        """Seconds until the next call: 1, 2, 4 … 60, but not past the time that the default tier needs."""
        refusals = len(_refusals(records, model))
        pause = min(2.0 ** min(max(refusals - 1, 0), 60), _LONGEST_PAUSE_S)
        pause = max(pause, retry_after_s or 0) * (1 + _SPREAD * random())
        spare = self._spare_s(records, model, remaining_s)
        return min(pause, spare) if spare >= _LEAST_S else 0.0

    def _spare_s(self, records: Sequence[AttemptRecord], model: str, remaining_s: float) -> float:
        """Seconds that may still go by in waiting."""
        known = self.run_times.common_s(model)
        needed = min(self.timeout_s * _UNKNOWN_SHARE, _UNKNOWN_S) if known is None else known * _SPARE
        spare = remaining_s - needed
        if self.max_wait_s is None:
            return spare
        waited = sum(record.backoff_s or 0 for record in _refusals(records, model))
        return min(spare, self.max_wait_s - waited)


def _refusals(records: Sequence[AttemptRecord], model: str) -> list[AttemptRecord]:
    return [one for one in records if one.model == model and one.full_tier is not None]
