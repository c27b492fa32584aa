from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sized,
)

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from ..call.submission import Submission
from ..client.port import EnginePort
from ..response import QueueChatCompletionResponse
from .item import BatchItem, BatchProgress
from .run import BatchRun

#: Requests that may be made one by one as there is room for them.
Requests = Iterable[ChatCompletionRequest] | AsyncIterable[ChatCompletionRequest]
#: Makes an item's idempotency key of its place and its request.
KeyOf = Callable[[int, ChatCompletionRequest], str]
OnProgress = Callable[[BatchProgress], None]


class Batch[T, A = QueueChatCompletionResponse]:
    """Requests on their way through the queue, so many at a time. Made for one run."""

    def __init__(
        self,
        engine: EnginePort,
        run: BatchRun[T, A],
        submission_of: Callable[[T], Submission[A]],
        requests: Iterable[T] | AsyncIterable[T],
        *,
        max_in_flight: int,
        key_of: Callable[[int, T], str] | None,
        as_completed: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self._engine, self._run, self._submission, self._requests = engine, run, submission_of, requests
        self._most, self._key_of, self._as_completed = max_in_flight, key_of, as_completed
        self._on_progress = on_progress
        self._started = self._done = self._failed = 0
        self._total = len(requests) if isinstance(requests, Sized) else None
        #: Ended before one that stands before them.
        self._early: dict[int, BatchItem[T, A]] = {}
        self._next = 0

    def items(self) -> Generator[BatchItem[T, A]]:
        """Carry it out, from a thread. Closing the iterator ends it."""
        assert isinstance(self._requests, Iterable)
        source, more = iter(self._requests), True
        try:
            while True:
                while more and self._in_flight < self._most:
                    try:
                        request = next(source)
                    except StopIteration:
                        more = False
                    else:
                        self._engine.call(self._starting(request))
                if not self._in_flight:
                    return
                yield from self._ended(self._engine.call(self._run.next))
        finally:
            self._engine.call(self._run.close)

    async def async_items(self) -> AsyncGenerator[BatchItem[T, A]]:
        """Carry it out, from an event loop. Closing the iterator ends it."""
        source, more = _one_by_one(self._requests), True
        try:
            while True:
                while more and self._in_flight < self._most:
                    try:
                        request = await anext(source)
                    except StopAsyncIteration:
                        more = False
                    else:
                        await self._engine.acall(self._starting(request))
                if not self._in_flight:
                    return
                for item in self._ended(await self._engine.acall(self._run.next)):
                    yield item
        finally:
            await self._engine.acall(self._run.close)

    @property
    def _in_flight(self) -> int:
        return self._started - self._done

    def _starting(self, request: T) -> Callable[[], Awaitable[None]]:
        index = self._started
        self._started += 1
        try:
            submission = self._submission(request)
            key = self._key_of(index, request) if self._key_of else None
        except Exception as error:
            # One request that cannot be sent keeps no other from it.
            failed: BatchItem[T, A] = BatchItem(index, request, error=error)
            return lambda: self._run.put(failed)
        return lambda: self._run.start(index, request, submission, key)

    def _ended(self, item: BatchItem[T, A]) -> Iterator[BatchItem[T, A]]:
        self._done += 1
        self._failed += item.error is not None
        if self._on_progress is not None:
            self._on_progress(BatchProgress(self._done, self._failed, self._in_flight, self._total))
        if self._as_completed:
            yield item
            return
        self._early[item.index] = item
        while self._next in self._early:
            yield self._early.pop(self._next)
            self._next += 1


async def _one_by_one[T](requests: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
