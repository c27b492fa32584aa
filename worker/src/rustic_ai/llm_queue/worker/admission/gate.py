"""Gates: what a job passes before it runs, and a call before it is sent.

Each gate is one limit. Nothing that waits at a gate holds a place in a worker: a gate that has no
room has the ledger put the job back on the queue, parked, in the step that looked for room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
    from rustic_ai.llm_queue.tasks.call import Call
    from rustic_ai.llm_queue.tasks.job import JobRecord

#: `parked`: the ledger has put the job back on the queue, or its lease is lost; this worker holds
#: nothing of it any more.
Verdict = Literal["admitted", "parked"]


class Refused(Exception):
    """A job, or one call of it, that will not be let through: fails with the envelope's kind of error."""

    def __init__(self, envelope: ErrorEnvelope) -> None:
        super().__init__(envelope.kind.value)
        self.envelope = envelope


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


class JobGate(Protocol):
    """Decides whether a claimed job may run now."""

    async def admit(self, job: Claimed) -> Verdict:
        """Let the job through, or have it parked. Raises `Refused`: the job fails at once."""

    async def leave(self, job: Claimed) -> None:
        """Give back what an admitted job holds of this gate; it has ended, or was handed back."""


class CallGate(Protocol):
    """Decides whether one call of a job may go to a model now. Asked before every attempt."""

    async def admit(self, job: Claimed, model: str, ended: Sequence[AttemptRecord]) -> Verdict:
        """Let the job's next call through, or have the job parked with `ended`, its attempts so far.

        Raises `Refused`: this model is not called; a fallback may be. What the gate took is given
        back by the ledger, in the steps that end the attempt or the job.
        """
