from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import batched
from typing import cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_errors import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.keys import job_key, result_key
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .background.supervised import supervised
from .subscriptions import Subscriptions

logger = get_logger(__name__)

#: Pub/sub delivers to current subscribers only. A message that was missed is found by polling.
_SAFETY_POLL_S = 5.0
_NEXT_TRY_S = 0.5
_READ_AT_ONCE = 500


class Watch:
    """A caller's place at the waiter: the results of one job that have come in."""

    def __init__(self, joined: asyncio.Event, rejoined: asyncio.Event) -> None:
        self.subscribed = joined
        #: The subscription held before the job was submitted: no result can have been missed.
        self.from_the_start = joined.is_set()
        self._rejoined = rejoined
        self._news: asyncio.Queue[str | None] = asyncio.Queue()

    def joined(self) -> None:
        if self.subscribed.is_set():
            self._rejoined.set()
        self.subscribed.set()

    def heard(self, message: str) -> None:
        self._news.put_nowait(message)

    def found_nothing(self) -> None:
        """No result is stored, and the job may be lost: its record is gone, or the connection was."""
        self._news.put_nowait(None)

    async def next(self) -> str | None:
        """The next result received, as it came: it may be forged, and must be opened before it is used.

        None when Redis may have lost the job.
        """
        return await self._news.get()


class ResultWaiter:
    """Waits for any number of results.

    Subscribe, wait for the acknowledgement, then submit, and wait; or, for a job that was submitted before,
    read the key, then wait: in these orders no result can fall between. Once the connection was lost, every
    pending key is read again.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        redis: Redis,
        reply_channel: str,
        *,
        on_joined: Callable[[], None],
    ) -> None:
        """
        Args:
            reply_channel: the subscriptions always listen on the `result_key` of this.
            on_joined: called whenever the subscription to it holds, for the first time or again.
        """
        self._subscriptions = subscriptions
        self._redis = redis
        self._reply_channel = reply_channel
        self._on_joined = on_joined
        self._joined, self._rejoined = asyncio.Event(), asyncio.Event()
        self._expected: dict[str, Watch] = {}
        self._watches: dict[str, set[Watch]] = {}
        self._poll: asyncio.Task[None] | None = None

    @contextmanager
    def expecting(self, job_id: str) -> Iterator[None]:
        """Listen for the result of a job that is about to be submitted with its `reply_channel`."""
        self.open()
        self._expected[job_id] = Watch(self._joined, self._rejoined)
        try:
            yield
        finally:
            del self._expected[job_id]

    def open(self) -> None:
        """Listen on the reply channel, and be known as a caller that waits. Twice is safe."""
        self._start()
        self._subscriptions.listen_always(self)

    @property
    def has_joined(self) -> bool:
        """Whether the subscription to the reply channel has held."""
        return self._joined.is_set()

    @property
    def waits(self) -> bool:
        """Whether a call waits for its result."""
        return bool(self._expected)

    def reply_channel(self, job_id: str) -> str | None:
        """Where the result of an expected job is to be sent; None for any other."""
        return self._reply_channel if job_id in self._expected else None

    @asynccontextmanager
    async def watch(self, job_id: str, *, expected: bool = False) -> AsyncIterator[Watch]:
        """Listen for the job's result. The subscription may still be on its way: see `subscribed`.

        Args:
            expected: the caller is within `expecting` for this job.
        """
        if expected:
            yield self._expected[job_id]
            return
        self._start()
        watch = Watch(asyncio.Event(), self._rejoined)
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            async with self._subscriptions.listening(result_key(job_id), watch):
                yield watch
        finally:
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    def joined(self) -> None:
        """The subscription to the reply channel holds, for the first time or again."""
        if self._joined.is_set():
            self._rejoined.set()
        self._joined.set()
        self._on_joined()

    def heard(self, message: str) -> None:
        """A message for one of the expected jobs."""
        job_id, _, result = message.partition(":")
        if watch := self._expected.get(job_id):
            watch.heard(result)

    async def close(self) -> None:
        """Stop reading. Closing twice is safe."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None

    def _start(self) -> None:
        if self._poll is None:
            self._poll = asyncio.create_task(supervised("results", self._read_for_ever))

    async def _read_for_ever(self) -> None:
        lost, wait_s = False, _SAFETY_POLL_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._rejoined.wait()
            except TimeoutError:
                pass  # nothing was lost that is known of; the keys are read all the same
            lost = lost or self._rejoined.is_set()
            self._rejoined.clear()
            try:
                await self._read(after_loss=lost)
                lost, wait_s = False, _SAFETY_POLL_S
            except OUTAGE_ERRORS as error:
                # What was missed meanwhile waits for this.
                wait_s = _NEXT_TRY_S
                logger.debug("No pending result could be read: %s", type(error).__name__)

    async def _read(self, *, after_loss: bool) -> None:
        pending = [*self._expected, *self._watches]
        for job_ids in batched(pending, _READ_AT_ONCE, strict=False):
            values = cast("list[str | None]", await self._redis.mget([*map(result_key, job_ids)]))
            results = dict(zip(job_ids, values, strict=True))
            unanswered = [job_id for job_id, raw in results.items() if raw is None]
            lost = set(unanswered) if after_loss else await self._lost(unanswered)
            for job_id, raw in results.items():
                for watch in self._following(job_id):
                    if raw is not None:
                        watch.heard(raw)
                    elif job_id in lost:
                        watch.found_nothing()

    async def _lost(self, job_ids: Sequence[str]) -> set[str]:
        """The calls of this process whose record is gone although no connection was lost."""
        own = [job_id for job_id in job_ids if job_id in self._expected]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in own:
                pipe.hget(job_key(job_id), "state")
            states = await pipe.execute()
        return {job_id for job_id, state in zip(own, states, strict=True) if state is None}

    def _following(self, job_id: str) -> list[Watch]:
        expected = self._expected.get(job_id)
        return [*([expected] if expected else ()), *self._watches.get(job_id, ())]
