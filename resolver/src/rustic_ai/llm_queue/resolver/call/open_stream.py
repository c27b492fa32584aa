from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.job import Job, JobRecord

from ..client.port import EnginePort
from ..exceptions import QueueUnavailable
from ..streams.source import StreamEvent, StreamSource
from .answer_reader import CompletionReader
from .client_errors import client_errors
from .submission import Submission, overdue

#: When the deadline has passed, the frames that Redis holds are still read for this long.
_LAST_READ_S = 0.5
#: Reading the log of a job that has ended takes less than this, or Redis is away.
_LONGEST_READ_S = 10.0
_UNREADABLE = "The stream could not be read from Redis; check LLM_QUEUE_REDIS_URL and that the server runs"


@dataclass
class OpenStream:
    """A stream that is being read. Lives on the engine's event loop."""

    engine: EnginePort
    source: StreamSource
    job: Job
    answer_reader: CompletionReader
    #: The deadline on this process's monotonic clock; infinite for a job that has ended.
    ends_at: float
    #: The job was submitted for this reader: it is cancelled when the reader leaves.
    own: bool

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        """The batch of this number. Raises `JobTimeout` past the deadline, `QueueUnavailable`."""
        try:
            async with asyncio.timeout(self._wait_s()):
                with client_errors(job_id=self.job.id, model=self.job.model):
                    return await self.source.next(number)
        except TimeoutError:
            if self.ends_at == math.inf:
                raise QueueUnavailable(_UNREADABLE, job_id=self.job.id) from None
            error = await overdue(self.engine, self.job, self.job.timeout_ms / 1000)
            if self.own:
                self.engine.abandon(self.job.id, self.job.owner)
            raise error from None

    def _wait_s(self) -> float:
        if self.ends_at == math.inf:
            return _LONGEST_READ_S
        return max(self.ends_at - time.monotonic(), _LAST_READ_S)

    async def cancel(self) -> bool:
        """Cancel the job. False when it had ended before. Raises `QueueUnavailable`."""
        try:
            with client_errors(job_id=self.job.id):
                verdict = await self.engine.cancel(self.job.id, self.job.owner)
        except QueueUnavailable:
            self.engine.abandon(self.job.id, self.job.owner)
            raise
        return verdict in ("cancelled", "cancelling")

    async def detach(self) -> None:
        """Let the job go on without this reader, whatever becomes of the process."""
        if self.own:
            self.engine.detach(self.job.id)

    async def close(self, *, cancel: bool) -> None:
        """Stop reading; with `cancel` the job is cancelled, too, as soon as Redis is reachable."""
        try:
            if cancel and time.monotonic() >= self.ends_at:
                # Its caller has waited long enough, and Redis may be away.
                self.engine.abandon(self.job.id, self.job.owner)
            elif cancel:
                await self.cancel()
        except QueueUnavailable:
            pass  # it is tried on in the background
        finally:
            await self.source.close()


async def open_new(
    engine: EnginePort, submission: Submission, *, join_s: float, detached: bool = False
) -> OpenStream:
    """Listen to a stream, and only then submit its job. Raises `QueueUnavailable`.

    Args:
        join_s: seconds to wait for the subscription.
        detached: the job goes on should this process die.
    """
    keep_until = asyncio.get_running_loop().time() + submission.timeout_s
    source = engine.stream(submission.job, keep_until=keep_until, awaited=not detached)
    ends_at = time.monotonic() + submission.timeout_s
    try:
        if not await source.join(join_s):
            # Where Redis refuses, a command of its own learns why.
            with client_errors(model=submission.job.model):
                await engine.check()
            raise QueueUnavailable(
                f"Redis did not take the subscription to the stream within {join_s:g} s; "
                "check LLM_QUEUE_REDIS_URL and that the server runs",
                model=submission.job.model,
            )
        await submission.submit_by(ends_at, engine)
    except BaseException:
        await source.close()
        raise
    return OpenStream(engine, source, submission.job, submission.answer_reader, ends_at, own=True)


async def open_known(
    engine: EnginePort, record: JobRecord, answer_reader: CompletionReader, *, ends_at: float, join_s: float
) -> OpenStream:
    """Listen to the stream of a job that was submitted here or elsewhere."""
    source = engine.stream(record.job, ended=record.state.final, epoch=record.ending_epoch)
    try:
        await source.join(join_s)
    except BaseException:
        await source.close()
        raise
    return OpenStream(engine, source, record.job, answer_reader, ends_at, own=False)
