from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rustic_ai.llm_queue.tasks.call import Call
from rustic_ai.llm_queue.tasks.job import Job, JobRecord, open_call
from rustic_ai.llm_queue.tasks.outcome import Cancelled, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..client.background.loop import BackgroundLoop
from ..client.errors import SubmitConflict, WaitTimeout
from ..streams.source import StreamSource
from .memory_job import MemoryJob
from .memory_reuse import MemoryReuse
from .memory_stream import MemoryStream
from .reply import Reply

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict


class MemoryEngine:
    """An `EnginePort` without Redis: its jobs are in this process, and a script is their worker."""

    def __init__(self, reply_to: Callable[[Call], Reply]) -> None:
        self.calls: list[Call] = []
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self._reply_to = reply_to
        self._by_id: dict[str, MemoryJob] = {}
        self._reuse = MemoryReuse(self._reply)
        self._keys: dict[tuple[Owner, str], str] = {}
        self._loop: BackgroundLoop | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to serve. Starting twice is safe."""
        if self._loop is None:
            self._loop = BackgroundLoop("llm-queue-in-memory")

    def stop(self) -> None:
        """Serve no more. Stopping twice, or before starting, is safe."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    async def release(self) -> None:
        """Let every call go on that is held."""
        for job in self._by_id.values():
            job.release()

    async def forget(self) -> None:
        """Drop all jobs; waiting calls end as cancelled."""
        for job in self._by_id.values():
            job.cancel("caller")
        self._reuse.clear()
        for kept in (self.calls, self.jobs, self.cancelled, self._by_id, self._keys):
            kept.clear()

    # What `QueueLLM` asks for.

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        return self._running().call(coro_fn)

    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        return await self._running().acall(coro_fn)

    def expecting(self, job_id: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def submit(self, job: Job, idempotency_key: str | None = None) -> str:
        if idempotency_key is not None:
            standing = self._standing((job.owner, idempotency_key))
            if standing is not None:
                return self._same(standing, job)
            self._keys[job.owner, idempotency_key] = job.id
        call = open_call(job, QueueSettings().sealer())
        self.jobs.append(job)
        held = self._by_id[job.id] = MemoryJob(job)
        self._reuse.run(call, held)
        return job.id

    async def outcome(
        self,
        job_id: str,
        owner: Owner,
        *,
        deadline_s: float | None,
        job: Job | None = None,
        epoch: int = 0,
    ) -> Outcome:
        try:
            async with asyncio.timeout(deadline_s):
                return await self._by_id[job_id].ending()
        except TimeoutError:
            raise WaitTimeout(job_id) from None

    async def stored_outcome(self, job_id: str, owner: Owner) -> Outcome | None:
        held = self._by_id.get(job_id)
        return held.outcome if held else None

    def stream(
        self,
        job: Job,
        *,
        ended: bool = False,
        keep_until: float | None = None,
        awaited: bool = False,
        epoch: int = 0,
    ) -> StreamSource:
        return MemoryStream(lambda: self._by_id.get(job.id))

    async def cancel(self, job_id: str, owner: Owner, *, by: str = "caller") -> CancelVerdict:
        held = self._by_id.get(job_id)
        if held is None:
            return "missing"
        if not held.cancel(by):
            return "ended"
        self.cancelled.append(job_id)
        return "cancelled"

    def abandon(self, job_id: str, owner: Owner) -> None:
        held = self._by_id.get(job_id)
        if held is not None and held.cancel("caller"):
            self.cancelled.append(job_id)

    def detach(self, job_id: str) -> None:
        """A job in memory ends with its process."""

    async def check(self) -> None:
        """Memory is always there."""

    async def left_s(self, record: JobRecord) -> float:
        return record.deadline_ms / 1000 - time.time()

    async def record(self, job_id: str) -> JobRecord | None:
        held = self._by_id.get(job_id)
        return held.record() if held else None

    def _reply(self, call: Call) -> Reply:
        self.calls.append(call)
        return self._reply_to(call)

    def _running(self) -> BackgroundLoop:
        if self._loop is None:
            raise RuntimeError("the InMemoryQueue is not entered: use it in a `with` statement")
        if self._pid != os.getpid():
            raise RuntimeError("the InMemoryQueue serves one process: give the guild the in-process engine")
        return self._loop

    def _standing(self, key: tuple[Owner, str]) -> MemoryJob | None:
        """The job a key stands for; a cancelled one has no answer it could stand for."""
        job = self._by_id.get(self._keys.get(key, ""))
        return None if job is None or isinstance(job.outcome, Cancelled) else job

    def _same(self, standing: MemoryJob, job: Job) -> str:
        known = standing.job
        if known.fingerprints != job.fingerprints:
            raise SubmitConflict(f"the idempotency key stands for another request, of job {known.id}")
        return known.id
