"""Function calls of one turn of the event loop, sent to Redis in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import batched
from typing import Any

from redis.asyncio import Redis

from ...connection.redis_errors import OUTAGE_ERRORS

#: Redis answers a batch when all of it is done: more than this would make the first wait for the last.
_MOST_TOGETHER = 32


class GatheredCalls:
    """Sends the commands of several jobs together, in one pipeline.

    perf: benchmark.md, "Calls of the ledger that come together go out together". A process with many jobs in
    flight has several commands in one turn of its loop. Each command by itself costs a write, a read, and a
    connection taken from the pool and put back.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Call] = []
        # The event loop itself keeps only a weak reference to a task.
        self._under_way: set[asyncio.Task[None]] = set()

    async def call(self, command: Sequence[Any]) -> Any:
        """Send a command that may be sent twice. Raises what redis-py raises for it."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Nobody waits for the calls of another loop: that loop has ended.
            self._loop, self._waiting = loop, []
        if not self._waiting:
            loop.call_soon(self._send, loop)
        call = _Call(command, loop.create_future())
        self._waiting.append(call)
        return await call.reply

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        for calls in batched(waiting, _MOST_TOGETHER, strict=False):
            task = loop.create_task(self._deliver(calls))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _deliver(self, calls: Sequence[_Call]) -> None:
        try:
            replies = await self._replies(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.reply.cancel()
            raise
        except Exception as error:
            replies = [error] * len(calls)
        for call, reply in zip(calls, replies, strict=True):
            if call.reply.done():
                continue
            if isinstance(reply, Exception):
                call.reply.set_exception(reply)
            else:
                call.reply.set_result(reply)

    async def _replies(self, calls: Sequence[_Call]) -> list[Any]:
        if len(calls) == 1:
            return [await self._redis.execute_command(*calls[0].command)]
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.command)
        replies = await pipeline.execute(raise_on_error=False)
        if any(isinstance(reply, OUTAGE_ERRORS) for reply in replies):
            # In a pipeline redis-py tries again when the connection fails, but not when Redis refuses.
            commands = (self._redis.execute_command(*call.command) for call in calls)
            return await asyncio.gather(*commands, return_exceptions=True)
        return replies


class _Call:
    __slots__ = ("command", "reply")

    def __init__(self, command: Sequence[Any], reply: asyncio.Future[Any]) -> None:
        self.command = command
        self.reply = reply
