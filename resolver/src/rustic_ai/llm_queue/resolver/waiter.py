from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import batched

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from ..tasks.keys import KEY_PREFIX, result_key
from ..tasks.redis_client import OUTAGE_ERRORS

logger = logging.getLogger(__name__)

#: A subscription without channels would end the connection: this one nobody publishes on.
_IDLE_CHANNEL = f"{KEY_PREFIX}idle"
_PING_AFTER_S = 10.0
_DEAD_AFTER_S = 15.0
_RECONNECT_STEP_S = 0.05
_RECONNECT_CAP_S = 1.0
#: Pub/sub forgets who was not there. Whatever is missed all the same is found by this.
_SAFETY_POLL_S = 5.0
_READ_AT_ONCE = 500


class Watch:
    """A caller's place at the waiter: what was last heard of one job."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        self._news: asyncio.Queue[str] = asyncio.Queue()

    def tell(self, raw: str) -> None:
        self._news.put_nowait(raw)

    async def next(self) -> str:
        """The next result heard, as it came: it may be forged, and must be opened to be believed."""
        return await self._news.get()


class ResultWaiter:
    """Waits for any number of results on one pub/sub connection.

    Subscribe, wait for the acknowledgement, read the key, then wait: in this order no result can
    fall between. A connection that is made anew reads every pending key again.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._watches: dict[str, set[Watch]] = {}
        self._pubsub: PubSub | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watch]:
        """Listen for the job's result. The subscription may still be on its way: see `subscribed`."""
        self._start()
        watch, channel = Watch(), result_key(job_id)
        self._watches.setdefault(channel, set()).add(watch)
        try:
            await self._subscribe(channel)
            yield watch
        finally:
            self._watches[channel].discard(watch)
            if not self._watches[channel]:
                del self._watches[channel]
                await self._unsubscribe(channel)

    async def close(self) -> None:
        """Stop listening. Closing twice is safe."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._listen_for_ever()),
                asyncio.create_task(self._poll_for_ever()),
            ]

    async def _subscribe(self, channel: str) -> None:
        if self._pubsub is not None:
            # Not there or gone: the connection that is made next subscribes to all of them.
            with suppress(*OUTAGE_ERRORS):
                await self._pubsub.subscribe(channel)

    async def _unsubscribe(self, channel: str) -> None:
        if self._pubsub is not None:
            with suppress(*OUTAGE_ERRORS):
                await self._pubsub.unsubscribe(channel)

    async def _listen_for_ever(self) -> None:
        pause_s = _RECONNECT_STEP_S
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(_IDLE_CHANNEL)
                    self._pubsub = pubsub
                    # The idle channel goes last: its acknowledgement says that all are there.
                    await pubsub.subscribe(*self._watches, _IDLE_CHANNEL)
                    pause_s = _RECONNECT_STEP_S
                    await self._listen(pubsub)
            except OUTAGE_ERRORS as error:
                logger.warning("Redis is away, waiting calls go on waiting: %s", type(error).__name__)
            finally:
                self._pubsub = None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RECONNECT_CAP_S)

    async def _listen(self, pubsub: PubSub) -> None:
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        while True:
            message = await pubsub.get_message(timeout=_PING_AFTER_S / 2)
            if message is not None:
                heard_at = clock()
                await self._hear(message)
            elif clock() - heard_at > _DEAD_AFTER_S:
                raise ConnectionError("the subscription's connection answers nothing")
            elif clock() - heard_at > _PING_AFTER_S:
                await pubsub.ping()

    async def _hear(self, message: dict[str, str]) -> None:
        channel = message["channel"]
        if message["type"] == "message":
            self._tell(channel, message["data"])
        elif channel == _IDLE_CHANNEL:
            self._reading = asyncio.create_task(self._read_quietly())
        elif message["type"] == "subscribe":
            for watch in self._watches.get(channel, ()):
                watch.subscribed.set()

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAFETY_POLL_S)
            await self._read_quietly()

    async def _read_quietly(self) -> None:
        try:
            await self._read(list(self._watches))
        except OUTAGE_ERRORS as error:
            logger.debug("No pending result could be read: %s", type(error).__name__)

    async def _read(self, channels: Iterable[str]) -> None:
        for names in batched(channels, _READ_AT_ONCE, strict=False):
            for channel, raw in zip(names, await self._redis.mget(names), strict=True):
                if raw is not None:
                    self._tell(channel, raw)

    def _tell(self, channel: str, raw: str) -> None:
        for watch in self._watches.get(channel, ()):
            watch.tell(raw)
