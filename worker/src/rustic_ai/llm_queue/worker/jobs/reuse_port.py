from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.outcome import Outcome

    from .execution import Execution


@dataclass(slots=True)
class ReuseTicket:
    """What equal calls are known by, and this job's part in a flight of them."""

    #: `reuse_name` of the call.
    name: str
    #: Of the cache, when it was asked; a cache that was cleared since takes no answer for it.
    generation: str | None = None
    leads: bool = False
    #: How often the flight was handed over before this job led it.
    handovers: int = 0


class Reuse(Protocol):
    """Finds answers that equal calls have brought, and passes this job's on: `AnswerReuse`."""

    async def find(self, execution: Execution) -> Outcome | None:
        """The outcome of a job that needs no call of its own; None when it has to make it.

        Raises `Stopped` when the job waits for an equal one, and so is parked, or its lease is lost.
        """

    async def keep(self, execution: Execution, outcome: Outcome) -> None:
        """Called before the job ends: what is kept then survives this worker."""

    async def share(self, execution: Execution, outcome: Outcome) -> None:
        """Called after the job has ended: answer the jobs that follow it."""
