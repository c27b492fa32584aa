from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.call import EmbeddingCall
    from rustic_ai.llm_queue.tasks.outcome import Outcome
    from rustic_ai.llm_queue.tasks.reuse.kept_vectors import KeptVectors

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


@dataclass(slots=True)
class VectorTicket:
    """What each text of a call for embeddings is known by, and which vectors are there already."""

    names: Sequence[str]
    #: With all of its texts.
    call: EmbeddingCall
    #: The vectors that are there.
    kept: KeptVectors
    #: Of the cache, when it was asked.
    generation: str | None = None


class Reuse(Protocol):
    """Finds answers that equal calls have brought, and passes this job's on: `CallReuse`."""

    async def find(self, execution: Execution) -> Outcome | None:
        """The outcome of a job that needs no call of its own; None when it has to make it.

        Of a job for embeddings the texts whose vectors are there are taken out of its call.

        Raises `Stopped` when the job waits for an equal one, and so is parked, or its lease is lost.
        """

    async def keep(self, execution: Execution, outcome: Outcome) -> Outcome:
        """Called before the job ends: what is kept then survives this worker. The job's whole outcome."""

    async def share(self, execution: Execution, outcome: Outcome) -> None:
        """Called after the job has ended: answer the jobs that follow it."""
