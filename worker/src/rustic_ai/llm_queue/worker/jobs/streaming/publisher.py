from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import ChunksFrame, FrameId, RestartFrame, pack_chunks, seal_frame
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

from ...settings import WorkerSettings
from ..execution import Execution, StopReason
from ..take_back import TakeBack
from .frame_buffer import FrameBuffer

logger = get_logger(__name__)

#: With this much waiting for a slow Redis the provider's stream is read no further.
_MOST_WAITING_BYTES = 256 * 1024
_REDIS_FAILS: tuple[type[Exception], ...] = (RedisError, *OUTAGE_ERRORS)


class StreamPublisher:
    """Sends a job's chunks out in frames: the first at once, the others as they gather.

    As a context manager: leaving it sends what is left, unless the work failed or was stopped.
    Frames are a view of the answer, not the answer: one that Redis does not take ends the frames,
    and never the attempt. A reader gets the rest from the result.
    """

    def __init__(
        self,
        job: Job,
        execution: Execution,
        *,
        ledger: Ledger,
        sealer: Sealer,
        take_back: TakeBack,
        settings: WorkerSettings,
    ) -> None:
        self._job, self._execution = job, execution
        self._ledger, self._sealer = ledger, sealer
        self._flush_s = settings.stream_flush.total_seconds()
        self._flush_bytes = settings.stream_flush_bytes
        self._max_bytes = settings.stream_max_bytes
        self._take_back = take_back
        #: Sent in the current attempt.
        self._sent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer()
        self._restart: tuple[ErrorKind, str] | None = None
        self._seq = 0
        #: Whether readers have received anything of the current attempt.
        self._told = False
        #: Redis did not take a frame: there will be no more.
        self.muted = False
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due, self._room = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._send_as_due(), name=f"stream {self._job.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._pump is not None
        if kind is None:
            self._closing = True
            self._due.set()
        else:
            self._pump.cancel()
        try:
            await asyncio.gather(self._pump, return_exceptions=kind is not None)
        finally:
            self._stop_timer()

    async def chunk(self, chunk: dict[str, Any]) -> None:
        """Take one chunk; waits while too much is waiting for Redis. Raises `StreamTooLarge`."""
        self._execution.note_chunk(chunk)
        if self._sent_bytes > self._max_bytes:
            from ...provider.failures.classify import StreamTooLarge

            raise StreamTooLarge(f"the provider's stream is longer than {self._max_bytes} bytes")
        if self.muted:
            return
        self._buffer.add(chunk)
        if self._is_due():
            self._due.set()
        elif self._timer is None and self._buffer.speaks:
            self._timer = self._loop.call_at(self._next_at, self._time_is_up)
        while self._buffer.bytes >= _MOST_WAITING_BYTES and not self.muted:
            self._room.clear()
            await self._room.wait()

    async def restart(self, reason: ErrorKind, model: str) -> None:
        """Void what came so far; readers that have seen any of it are notified at once."""
        self._buffer.take()
        self._next_at, self._sent_bytes = 0.0, 0
        if self._told and not self.muted:
            self._told = False
            self._restart = (reason, model)
            self._due.set()

    async def _send_as_due(self) -> None:
        try:
            while not self.muted:
                while self._is_due():
                    await self._send(self._take())
                    self._room.set()
                if self._closing:
                    return
                self._due.clear()
                await self._due.wait()
        except Exception:
            # What cannot be made into a frame costs the reader a view, never the caller the answer.
            logger.exception("Job %s goes on without its stream", self._job.id)
            self._mute()

    def _is_due(self) -> bool:
        if self._restart is not None:
            return True
        if self._closing:
            return bool(self._buffer)
        full = self._buffer.bytes >= self._flush_bytes
        return self._buffer.speaks and (full or self._loop.time() >= self._next_at)

    def _time_is_up(self) -> None:
        self._timer = None
        self._next_at = 0.0
        self._due.set()

    def _take(self) -> ChunksFrame | RestartFrame:
        epoch, seq = self._execution.epoch, self._seq + 1
        frame: ChunksFrame | RestartFrame
        if self._restart is not None:
            reason, model = self._restart
            self._restart = None
            frame = RestartFrame(epoch=epoch, seq=seq, reason=reason, model=model)
        else:
            frame = ChunksFrame(epoch=epoch, seq=seq, chunks=pack_chunks(self._buffer.take()))
            self._told = True
            self._next_at = self._loop.time() + self._flush_s
            self._stop_timer()
        self._seq = seq
        return frame

    async def _send(self, frame: ChunksFrame | RestartFrame) -> None:
        void_before = frame.seq == 1 or isinstance(frame, RestartFrame)
        body = frame.model_dump_json()
        self._sent_bytes += len(body.encode())
        raw = seal_frame(body, job_id=self._job.id, owner=self._job.owner, sealer=self._sealer)
        at = FrameId(frame.epoch, frame.seq)
        try:
            held = await self._ledger.emit(self._job.id, at, raw, void_before=void_before)
            if not held and await self._take_back(self._execution):
                held = await self._ledger.emit(self._job.id, at, raw, void_before=void_before)
        except _REDIS_FAILS as error:
            logger.warning("Job %s goes on without its stream: %s", self._job.id, type(error).__name__)
            self._mute()
            return
        if not held:
            self._mute()
            self._execution.stop(StopReason.LOST)

    def _mute(self) -> None:
        self.muted = True
        self._buffer.take()
        self._room.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
