from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import batched
from typing import cast

from redis.asyncio import Redis

from ..tasks.keys import result_key
from ..tasks.redaction import get_logger
from ..tasks.redis_client import OUTAGE_ERRORS
from .subscriptions import Subscriptions

logger = get_logger(__name__)

#: Pub/sub forgets who was not there. Whatever is missed all the same is found by this.
_SAFETY_POLL_S = 5.0
_READ_AT_ONCE = 500


class Watch:
    """A caller's place at the waiter: what was last heard of one job."""

    def __init__(self, rejoined: asyncio.Event) -> None:
        self.subscribed = asyncio.Event()
        self._rejoined = rejoined
        self._news: asyncio.Queue[str | None] = asyncio.Queue()

    def joined(self) -> None:
        if self.subscribed.is_set():
            self._rejoined.set()
        self.subscribed.set()

    def heard(self, message: str) -> None:
        self._news.put_nowait(message)

    def found_nothing(self) -> None:
        """The connection was lost, and since it is back no result is stored."""
        self._news.put_nowait(None)

    async def next(self) -> str | None:
        """The next result heard, as it came: it may be forged, and must be opened to be believed.

        None when there is none although the connection was lost: Redis may have lost the job, too.
        """
        return await self._news.get()


class ResultWaiter:
    """Waits for any number of results.

    Subscribe, wait for the acknowledgement, read the key, then wait: in this order no result can
    fall between. Once the connection was lost, every pending key is read again.
    """

    def __init__(self, subscriptions: Subscriptions, redis: Redis) -> None:
        self._subscriptions = subscriptions
        self._redis = redis
        self._watches: dict[str, set[Watch]] = {}
        self._rejoined = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watch]:
        """Listen for the job's result. The subscription may still be on its way: see `subscribed`."""
        if self._poll is None:
            self._poll = asyncio.create_task(self._read_for_ever())
        watch, channel = Watch(self._rejoined), result_key(job_id)
        self._watches.setdefault(channel, set()).add(watch)
        try:
            async with self._subscriptions.listening(channel, watch):
                yield watch
        finally:
            self._watches[channel].discard(watch)
            if not self._watches[channel]:
                del self._watches[channel]

    async def close(self) -> None:
        """Stop reading. Closing twice is safe."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None

    async def _read_for_ever(self) -> None:
        lost = False
        while True:
            try:
                async with asyncio.timeout(_SAFETY_POLL_S):
                    await self._rejoined.wait()
            except TimeoutError:
                pass  # nothing was lost that is known of; the keys are read all the same
            lost = lost or self._rejoined.is_set()
            self._rejoined.clear()
            try:
                await self._read(after_loss=lost)
                lost = False
            except OUTAGE_ERRORS as error:
                logger.debug("No pending result could be read: %s", type(error).__name__)

    async def _read(self, *, after_loss: bool) -> None:
        for names in batched(list(self._watches), _READ_AT_ONCE, strict=False):
            values = cast("list[str | None]", await self._redis.mget(names))
            for channel, raw in zip(names, values, strict=True):
                for watch in tuple(self._watches.get(channel, ())):
                    if raw is not None:
                        watch.heard(raw)
                    elif after_loss:
                        watch.found_nothing()
