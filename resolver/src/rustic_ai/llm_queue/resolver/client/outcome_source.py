from __future__ import annotations

from typing import TYPE_CHECKING

from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.outcome import Outcome

from ..streams.source import CaughtUp, Ended, StreamEvent

if TYPE_CHECKING:
    from .port import EnginePort


class OutcomeSource:
    """Presents a job that does not stream as a stream with one event, its end."""

    def __init__(self, engine: EnginePort, job: Job, epoch: int) -> None:
        self._engine, self._job, self._epoch = engine, job, epoch

    async def join(self, timeout_s: float) -> bool:
        """There is nothing to be missed."""
        return True

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        return CaughtUp(), Ended(await self._outcome())

    async def close(self) -> None:
        """There is nothing to close."""

    async def _outcome(self) -> Outcome:
        job = self._job
        return await self._engine.outcome(job.id, job.owner, deadline_s=None, epoch=self._epoch)
