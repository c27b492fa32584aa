from __future__ import annotations

from collections.abc import Callable, Sequence

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import Call
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind, Next
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope

from .retry import Backoff, Decision, decide

#: Enough for the decision of which model is next, which is all that a replay asks.
_AMPLE_TIME_S = float("inf")
_NO_PAUSE = Backoff(base_s=0.0, cap_s=0.0)


class AttemptPlan:
    """Which model is next. Knows a job's models, their order, and the tries each has left."""

    def __init__(self, call: Call) -> None:
        self._models = (call.model, *call.fallback_models)
        self._max_retries = call.max_retries
        self._position = 0
        self._failures = 0
        self._pause_s = 0.0

    @property
    def model(self) -> str:
        """The model of the next attempt."""
        return self._models[self._position]

    def failed(
        self, error: ErrorEnvelope, *, remaining_s: float, backoff: Backoff, random: Callable[[], float]
    ) -> Decision:
        """Take note of a failure of `model`, and decide what follows."""
        self._failures += 1
        decision = decide(
            error,
            failures=self._failures,
            max_retries=self._max_retries,
            more_models=self._position + 1 < len(self._models),
            remaining_s=remaining_s,
            backoff=backoff,
            random=random,
            previous_pause_s=self._pause_s,
        )
        self._pause_s = decision.delay_s
        if decision.next is Next.FALL_BACK:
            self._move_to(self._position + 1)
        return decision

    @property
    def has_fallback(self) -> bool:
        """Another model may be asked after this one."""
        return self._position + 1 < len(self._models)

    def fall_back(self) -> bool:
        """Go on with the next model, without a call of this one. False when there is none."""
        if self._position + 1 >= len(self._models):
            return False
        self._move_to(self._position + 1)
        return True

    def step_in(self, model: str) -> bool:
        """Go on with a model that is none of the job's own. False when it was tried already."""
        if model in self._models[: self._position + 1]:
            return False
        after = self._position + 1
        self._models = (*self._models[:after], model, *self._models[after:])
        self._move_to(after)
        return True

    def resume(self, records: Sequence[AttemptRecord]) -> ErrorEnvelope | None:
        """Come to where earlier claims were. Returns the last error when they left nothing to try.

        Only attempts that failed count: those lost with a worker are bounded elsewhere, and those at a
        service tier that was full cost nothing but time.
        """
        over: ErrorEnvelope | None = None
        for record in records:
            over = None
            self._follow(record.model)
            if record.status != "failed" or record.full_tier is not None:
                continue
            error = ErrorEnvelope(
                kind=record.error or ErrorKind.WORKER_FAULT,
                message="the last attempt before the worker of this job was lost failed",
                provider_status=record.provider_status,
                model=record.model,
            )
            decision = self.failed(error, remaining_s=_AMPLE_TIME_S, backoff=_NO_PAUSE, random=lambda: 0.0)
            if decision.next is Next.GIVE_UP:
                over = error
        return over

    def model_at(self, number: int, records: Sequence[AttemptRecord]) -> str:
        """The model of attempt `number`, which has no record: it follows from those before it."""
        earlier = AttemptPlan.__new__(AttemptPlan)
        earlier._models, earlier._max_retries = self._models, self._max_retries
        earlier._move_to(0)
        earlier.resume([record for record in records if record.number < number])
        return earlier.model

    def _follow(self, model: str) -> None:
        """A record of a later model shows that a fallback took place, whatever its reason was."""
        later = range(self._position, len(self._models))
        position = next((at for at in later if self._models[at] == model), self._position)
        if position != self._position:
            self._move_to(position)

    def _move_to(self, position: int) -> None:
        self._position, self._failures, self._pause_s = position, 0, 0.0
