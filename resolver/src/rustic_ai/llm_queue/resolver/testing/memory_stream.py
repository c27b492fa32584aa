from __future__ import annotations

from collections.abc import Callable

from ..streams.source import CaughtUp, Ended, StreamEvent
from .memory_job import MemoryJob


class MemoryStream:
    """The stream of a job in memory: past events first, then new ones."""

    def __init__(self, find: Callable[[], MemoryJob | None]) -> None:
        """
        Args:
            find: the job, once it has been submitted.
        """
        self._find = find
        self._past = 0
        self._seen = 0
        self._number = 0
        self._batch: tuple[StreamEvent, ...] = ()

    async def join(self, timeout_s: float) -> bool:
        """Note what was there before."""
        job = self._find()
        self._past = len(job.events) if job else 0
        return True

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        if number != self._number:
            self._batch = await self._more(number)
            self._number = number
        return self._batch

    async def close(self) -> None:
        """There is nothing to close."""

    async def _more(self, number: int) -> tuple[StreamEvent, ...]:
        job = self._find()
        assert job is not None, "a stream is read once its job was submitted"
        if number == 1:
            self._seen = self._past
            return *job.events[: self._past], CaughtUp()
        await job.wait_beyond(self._seen)
        events: list[StreamEvent] = [*job.events[self._seen :]]
        self._seen = len(job.events)
        if job.outcome is not None:
            events.append(Ended(job.outcome))
        return tuple(events)
