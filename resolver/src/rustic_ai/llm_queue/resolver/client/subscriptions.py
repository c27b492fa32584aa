from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_errors import LOGIN_ERRORS, OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .background.supervised import supervised

logger = get_logger(__name__)

_PING_AFTER_S = 5.0
_DEAD_AFTER_S = 10.0
_RECONNECT_STEP_S = 0.05
_RECONNECT_CAP_S = 1.0


class Listener(Protocol):
    """Listens on a channel. Its methods return at once: they hold up all the others."""

    def joined(self) -> None:
        """The subscription holds now, for the first time or again: earlier messages were missed."""

    def heard(self, message: str) -> None:
        """A message of the channel. Anybody on Redis can have sent it."""


class Subscriptions:
    """Any number of channels on one pub/sub connection, which is made anew whenever it is lost."""

    def __init__(self, redis: Redis, always: str) -> None:
        """
        Args:
            always: the channel of `listen_always`. A connection without any channel would be closed.
        """
        self._redis = redis
        self._always = always
        self._listeners: dict[str, set[Listener]] = {}
        self._pubsub: PubSub | None = None
        #: The channels whose subscription the server has acknowledged on this connection.
        self._held: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def listen_always(self, listener: Listener) -> None:
        """Listen for as long as there is a connection, which is made now if there is none. Twice is safe."""
        listeners = self._listeners.setdefault(self._always, set())
        if listener in listeners:
            return
        listeners.add(listener)
        self._start()
        if self._always in self._held:
            # A stream has made the connection before: the server does not acknowledge again.
            listener.joined()

    @asynccontextmanager
    async def listening(self, channel: str, listener: Listener) -> AsyncIterator[None]:
        """Listen on the channel. The subscription may still be on its way: see `Listener.joined`."""
        self._start()
        self._listeners.setdefault(channel, set()).add(listener)
        try:
            await self._subscribe(channel)
            yield
        finally:
            self._listeners[channel].discard(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]
                await self._unsubscribe(channel)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(supervised("subscriptions", self._listen_for_ever))

    async def close(self) -> None:
        """Stop listening. Closing twice is safe."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _subscribe(self, channel: str) -> None:
        # Not there or gone: the connection that is made next subscribes to all of them.
        if self._pubsub is not None:
            await _attempted(self._pubsub.subscribe(channel))

    async def _unsubscribe(self, channel: str) -> None:
        if self._pubsub is not None:
            # A failure here must not take the answer from a listener that has it.
            await _attempted(self._pubsub.unsubscribe(channel))

    async def _listen_for_ever(self) -> None:
        pause_s = _RECONNECT_STEP_S
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._always)
                    self._pubsub = pubsub
                    try:
                        if further := self._listeners.keys() - {self._always}:
                            await pubsub.subscribe(*further)
                        pause_s = _RECONNECT_STEP_S
                        await self._listen(pubsub)
                    finally:
                        self._pubsub = None
                        self._held.clear()
            except LOGIN_ERRORS as error:
                self._refused(error)
            except OUTAGE_ERRORS as error:
                logger.warning("Redis is away, waiting calls go on waiting: %s", type(error).__name__)
            except RedisError as error:
                # For example not allowed. The polls find the answers, only later.
                self._refused(error)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RECONNECT_CAP_S)

    def _refused(self, error: Exception) -> None:
        logger.error("Redis refuses the subscriptions: %s; run `llm-queue doctor`", error)

    async def _listen(self, pubsub: PubSub) -> None:
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        while True:
            message = await pubsub.get_message(timeout=_PING_AFTER_S / 2)
            if message is not None:
                heard_at = clock()
                self._pass_on(message)
            elif clock() - heard_at > _DEAD_AFTER_S:
                raise ConnectionError("the subscription's connection answers nothing")
            elif clock() - heard_at > _PING_AFTER_S:
                await pubsub.ping()

    def _pass_on(self, message: dict[str, str]) -> None:
        channel = message["channel"]
        listeners = tuple(self._listeners.get(channel, ()))
        match message["type"]:
            case "message":
                for listener in listeners:
                    listener.heard(message["data"])
            case "subscribe":
                self._held.add(channel)
                for listener in listeners:
                    listener.joined()
            case "unsubscribe":
                self._held.discard(channel)


async def _attempted(command: Awaitable[None]) -> None:
    try:
        await command
    except Exception as error:
        # An outage, which the listening task meets, too; or what redis-py makes of a connection that this
        # task closes meanwhile, such as an AttributeError.
        logger.debug("A subscription could not be changed: %s", type(error).__name__)
