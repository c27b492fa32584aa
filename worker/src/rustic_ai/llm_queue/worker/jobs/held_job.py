from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..attempts.attempts import Answer
    from .job_run import JobRun


class StopReason(StrEnum):
    """Why work on a job is stopped before it is done."""

    #: Another worker has the lease now: write nothing any more.
    LOST = "lost"
    CANCELLED = "cancelled"
    #: This worker shuts down: hand the job back.
    SHUTDOWN = "shutdown"


class Stopped(Exception):
    """Work on the job was stopped; the reason says what is to be done about it."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class HeldJob:
    """A job this worker holds the lease of, and the one place where its work is stopped.

    Stopping cancels the work (and so closes the provider's connection), never what comes after
    it: the job is always settled or handed back.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.epoch = 0
        #: Loop time at which it was taken up.
        self.since_s = asyncio.get_running_loop().time()
        self.stop_reason: StopReason | None = None
        #: The provider's whole answer, from the moment it is there.
        self.answer: Answer | None = None
        #: What there is to tell of it, from its claim on.
        self.run: JobRun
        self._work: asyncio.Task[Any] | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop the work now, or before it begins. The first reason stands, but for a lost lease."""
        if self.stop_reason is None or reason is StopReason.LOST:
            self.stop_reason = reason
        if self._work is not None:
            self._work.cancel()

    def check(self) -> None:
        """Raise `Stopped` if it was."""
        if self.stop_reason is not None:
            raise Stopped(self.stop_reason)

    async def work[T](self, coro: Coroutine[Any, Any, T]) -> T:
        """Do `coro`, unless it is stopped: then `Stopped`."""
        if self.stop_reason is not None:
            coro.close()
            raise Stopped(self.stop_reason)
        work = asyncio.create_task(coro, name=f"job {self.job_id}")
        self._work = work
        try:
            return await work
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self._work = None
