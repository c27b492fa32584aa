from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from .call.open_stream import OpenStream
from .chunk import ChatCompletionChunk
from .client.port import EnginePort
from .response import QueueChatCompletionResponse
from .streams.answer import OnRestart, StreamedAnswer
from .streams.source import StreamEvent

#: Subscribes and, for a new job, submits it; on the engine's event loop.
Opening = Callable[[], Awaitable[OpenStream]]


@dataclass(frozen=True)
class StreamOptions:
    """The reader's options."""

    #: The job goes on when its reader leaves.
    detach: bool = False
    on_restart: OnRestart | None = None
    refuse_restarts: bool = False
    #: Begin with what comes from now on.
    skip_past: bool = False


class _Stream:
    """The common part of both kinds of stream."""

    def __init__(self, engine: EnginePort, opening: Opening, options: StreamOptions) -> None:
        self._engine, self._opening, self._options = engine, opening, options
        self._detached = options.detach
        self._opened: OpenStream | None = None
        self._answer: StreamedAnswer | None = None
        self._chunks: deque[ChatCompletionChunk] = deque()
        self._events: deque[StreamEvent] = deque()
        self._batches = 0

    @property
    def job_id(self) -> str:
        """The job's id, for `QueueLLM.job` in this or another process."""
        return self._open().job.id

    @property
    def text(self) -> str:
        """The first choice's content so far."""
        return self.text_of(0)

    def text_of(self, choice: int) -> str:
        """A choice's content so far."""
        return self._read().text(choice)

    @property
    def restarts(self) -> int:
        """How often the text began anew."""
        return self._read().restarts

    @property
    def response(self) -> QueueChatCompletionResponse:
        """The whole answer, with usage, cost and attempts.

        Raises `RuntimeError` before the stream has been read to its end: see `result`.
        """
        response = self._read().response
        if response is None:
            raise RuntimeError("the stream has not been read to its end; iterate it, or ask for its result")
        return response

    def detach(self) -> None:
        """Let the job go on when this reader leaves."""
        self._detached = True
        if self._opened is not None:
            self._engine.call(self._opened.detach)

    def _check_new(self) -> None:
        if self._opened is not None:
            raise RuntimeError("a stream is entered once; ask for another one")

    async def _begin(self) -> None:
        self._start(await self._opening())

    async def _leave(self) -> None:
        if self._opened is not None:
            await self._opened.close(cancel=self._cancels)

    def _start(self, opened: OpenStream) -> None:
        self._opened = opened
        self._answer = StreamedAnswer(
            opened.job.id,
            opened.job.model,
            opened.answer_reader.read,
            on_restart=self._options.on_restart,
            refuse_restarts=self._options.refuse_restarts,
            skip_past=self._options.skip_past,
        )

    def _next_known(self) -> ChatCompletionChunk | None:
        """The next of the chunks that have arrived."""
        answer = self._read()
        while not self._chunks and self._events:
            self._chunks.extend(answer.take(self._events.popleft()))
        return self._chunks.popleft() if self._chunks else None

    def _take(self, batch: tuple[StreamEvent, ...]) -> None:
        self._batches += 1
        self._events.extend(batch)

    @property
    def _ended(self) -> bool:
        return self._read().ended

    @property
    def _cancels(self) -> bool:
        """Whether leaving now ends the job."""
        return self._open().own and not (self._detached or self._ended)

    def _open(self) -> OpenStream:
        if self._opened is None:
            raise RuntimeError("the stream is not open: use it in a `with` statement")
        return self._opened

    def _read(self) -> StreamedAnswer:
        self._open()
        assert self._answer is not None
        return self._answer


class CompletionStream(_Stream):
    """A chat completion as it comes: a context manager that yields its chunks.

    Iterating raises what the job failed with; `JobTimeout` past the call's timeout; `StreamRestarted`
    where restarts are refused; `StreamExpired`. Leaving the context before the end cancels the job,
    unless the stream is detached or was opened through a job's handle.
    """

    def __enter__(self) -> Self:
        """Raises `QueueUnavailable`, `JobNotFound`."""
        self._check_new()
        try:
            self._engine.call(self._begin)
        except BaseException:
            # A Ctrl-C may come when the job is on the queue already.
            self._engine.call(self._leave)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open()
        self._engine.call(self._leave)

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self

    def __next__(self) -> ChatCompletionChunk:
        opened = self._open()
        while (chunk := self._next_known()) is None:
            if self._ended:
                raise StopIteration
            self._take(self._engine.call(partial(opened.next, self._batches + 1)))
        return chunk

    def result(self) -> QueueChatCompletionResponse:
        """Read to the end. Raises what iterating raises."""
        for _ in self:
            pass
        return self.response

    def cancel(self) -> bool:
        """Cancel the job; iterating on then raises `JobCancelled`. False when it had ended before."""
        return self._engine.call(self._open().cancel)


class AsyncCompletionStream(_Stream):
    """`CompletionStream`, from an event loop."""

    async def __aenter__(self) -> Self:
        """Raises `QueueUnavailable`, `JobNotFound`."""
        self._check_new()
        try:
            await self._engine.acall(self._begin)
        except BaseException:
            await self._engine.acall(self._leave)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open()
        await self._engine.acall(self._leave)

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        """A wait that is cut short loses no chunk: the next one goes on where it was."""
        opened = self._open()
        while (chunk := self._next_known()) is None:
            if self._ended:
                raise StopAsyncIteration
            self._take(await self._engine.acall(partial(opened.next, self._batches + 1)))
        return chunk

    async def result(self) -> QueueChatCompletionResponse:
        """Read to the end. Raises what iterating raises."""
        async for _ in self:
            pass
        return self.response

    async def cancel(self) -> bool:
        """Cancel the job; iterating on then raises `JobCancelled`. False when it had ended before."""
        return await self._engine.acall(self._open().cancel)
