"""Gates: what a job passes before it runs, and a call before it is sent.

Nothing that waits at a gate holds a place in a worker: a gate that has no room has the ledger take the
job back, parked, in the step that looked for room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
    from rustic_ai.llm_queue.tasks.budget_state import BudgetState
    from rustic_ai.llm_queue.tasks.call import Call
    from rustic_ai.llm_queue.tasks.job import JobRecord
    from rustic_ai.llm_queue.tasks.usage import Usage

    from ..provider.targets.credentials import Target

#: `parked`: the ledger has taken the job back; this worker holds nothing of it any more. `lost`: its lease
#: is lost. `cancelled`: the caller asked for it meanwhile.
Verdict = Literal["admitted", "parked", "lost", "cancelled"]


class Refused(Exception):
    """A job, or one call of it, that will not be let through: fails with the envelope's kind of error.

    Attributes:
        instead: the model that the operators' policy has step in.
    """

    def __init__(self, envelope: ErrorEnvelope, *, instead: str | None = None) -> None:
        super().__init__(envelope.kind.value)
        self.envelope, self.instead = envelope, instead


@dataclass(frozen=True, slots=True)
class NextCall:
    """The provider call that a job makes next."""

    #: Where it goes.
    target: Target
    #: Its number among the job's calls, from 1.
    number: int
    #: Those before it whose end is known.
    ended: Sequence[AttemptRecord]
    #: Another model may be asked in its place.
    may_fall_back: bool
    #: What the call before it has used, as far as that is known.
    used: Usage | None = None


class Claimed(Protocol):
    """A job this worker has claimed, as a gate sees it."""

    @property
    def job_id(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def record(self) -> JobRecord | None:
        """None when it does not validate: such a job ends without a call."""

    @property
    def call(self) -> Call | None:
        """The opened request; None at a job's gates, which it passes before."""

    @property
    def redis_ms(self) -> int:
        """Now, in Unix milliseconds on Redis' clock."""

    def passed_budget(self, state: BudgetState | None) -> None:
        """Take note of the tightest of the budgets that the next call has passed."""

    def waits_at(self, limit: str) -> None:
        """Take note of the limit that the job is parked at."""

    @property
    def limits_closed(self) -> bool:
        """Some limit was closed to all workers when the job was claimed."""


class JobGate(Protocol):
    """Decides whether a claimed job may run now."""

    async def admit(self, job: Claimed) -> Verdict:
        """Let the job through, or have it parked. Raises `Refused`: the job fails at once."""

    async def leave(self, job: Claimed) -> None:
        """Give back what an admitted job holds of this gate; it has ended, or was handed back."""


class CallGate(Protocol):
    """Decides whether one call of a job may go now. Asked before every attempt."""

    async def admit(self, job: Claimed, call: NextCall) -> Verdict:
        """Let the job's next call through, or have the job parked with its attempts so far.

        Raises `Refused`: this model is not called; a fallback may be. What the gate took is given
        back by the ledger, in the steps that end the attempt or the job.
        """

    async def note_answer(
        self, job: Claimed, target: Target, usage: Usage, headers: Mapping[str, str]
    ) -> None:
        """Learn from an answered call: its tokens, and what the provider says of its limits."""
