from __future__ import annotations

import asyncio
import time

from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..call.submission import Submission
from ..client.port import EnginePort
from ..exceptions import IdempotencyConflict, QueueError, QueueUnavailable
from ..handle import JobHandle
from ..response import QueueChatCompletionResponse
from .item import BatchItem

#: Earlier runs that may have failed at an item before it is left at that.
_MOST_TURNS = 10


class BatchRun[T, A = QueueChatCompletionResponse]:
    """The items of a batch that are under way. Lives on the engine's loop."""

    def __init__(self, engine: EnginePort, settings: QueueSettings) -> None:
        self._engine, self._settings = engine, settings
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[BatchItem[T, A]] = asyncio.Queue()

    async def start(self, index: int, request: T, submission: Submission[A], key: str | None) -> None:
        """Send a request on its way."""
        task = asyncio.create_task(self._carry(index, request, submission, key))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def put(self, item: BatchItem[T, A]) -> None:
        """Take in an item that has ended already."""
        self._ended.put_nowait(item)

    async def next(self) -> BatchItem[T, A]:
        """Wait for an item to end."""
        return await self._ended.get()

    async def close(self) -> None:
        """Follow no item any more. A job is cancelled, unless its key lets the next run find it."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _carry(self, index: int, request: T, submission: Submission[A], key: str | None) -> None:
        try:
            if key is None:
                response = await submission.answer(self._engine)
            else:
                response = await self._answer_once(submission, key)
        except Exception as error:
            self._ended.put_nowait(BatchItem(index, request, error=error))
        else:
            self._ended.put_nowait(BatchItem(index, request, response=response))

    async def _answer_once(self, submission: Submission[A], key: str) -> A:
        """The answer of the job that an earlier run made under this key, or of a new one.

        A job that ended without an answer is no reason not to ask again, under a key that follows.
        """
        for turn in range(_MOST_TURNS):
            ends_at = time.monotonic() + submission.timeout_s
            job_id = await submission.submit(self._engine, f"{key}#{turn}" if turn else key)
            mine = job_id == submission.job.id
            handle = JobHandle(
                job_id,
                submission.job.owner,
                self._settings,
                ends_at=ends_at if mine else None,
                answer_reader=submission.answer_reader,
            )
            try:
                return await handle.answer(self._engine)
            except (QueueUnavailable, IdempotencyConflict):
                raise
            except QueueError:
                if mine or turn == _MOST_TURNS - 1:
                    raise
        raise AssertionError("the last turn returns or raises")
