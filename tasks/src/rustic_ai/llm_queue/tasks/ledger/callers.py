"""The processes that wait for answers, and those of them that are gone.

A process listens on one channel for the answers of all its calls, for as long as it lives. A channel without
a subscriber for a while is that of a process that died, and nobody awaits its answers any more. A process is
on the list only once its subscription has held: one that may not subscribe is never taken for dead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

from redis.asyncio import Redis

from ..connection.cluster_mode import count_subscribers
from . import keys
from .clock import now_ms
from .wire import milliseconds

#: Any agent can add to the list, so no more of it are looked at.
_MOST_CALLERS = 10_000
_PAGE = 500
#: A list that no process and no worker has touched for so long is forgotten.
_KEPT = timedelta(days=2)


class Callers:
    """The list of callers over one asyncio Redis client. Every method raises redis-py's `RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def register(self, caller: str) -> None:
        """Put a process on the list whose subscription holds, or count it among the living again.

        Args:
            caller: its reply channel, see `Ledger.submit`.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.CALLERS, {caller: 0})
            pipe.pexpire(keys.CALLERS, milliseconds(_KEPT))
            await pipe.execute()

    async def forget(self, caller: str) -> None:
        """Take a process off the list: it has ended, and left nothing behind."""
        await self._redis.zrem(keys.CALLERS, caller)

    async def gone(self, *, absent_for: timedelta) -> list[str]:
        """Look at every process once; name those that were found absent for as long as that.

        To be asked again and again: the first look at an absent one only notes when that was.
        """
        # The last ones, among which are all that were found absent.
        listed = cast(
            "list[tuple[str, float]]",
            await self._redis.zrange(keys.CALLERS, -_MOST_CALLERS, -1, withscores=True),
        )
        if not listed:
            return []
        absent_since_ms = {caller: int(score) for caller, score in listed}
        channels = [keys.result_key(caller) for caller in absent_since_ms]
        subscribers = await count_subscribers(self._redis, channels)
        at_ms = await now_ms(self._redis)
        changed, gone = {}, []
        for caller, since_ms in absent_since_ms.items():
            if subscribers[keys.result_key(caller)]:
                if since_ms:
                    changed[caller] = 0
            elif not since_ms:
                changed[caller] = at_ms
            elif at_ms - since_ms >= milliseconds(absent_for):
                gone.append(caller)
        async with self._redis.pipeline(transaction=False) as pipe:
            if changed:
                # Only those that are still listed: another worker may have buried one meanwhile.
                pipe.zadd(keys.CALLERS, changed, xx=True)
            pipe.pexpire(keys.CALLERS, milliseconds(_KEPT))
            await pipe.execute()
        return gone

    async def jobs_of(self, caller: str) -> AsyncIterator[str]:
        """The unfinished jobs whose answers this process awaits. Reads every unfinished job's record."""
        unfinished = cast("list[str]", await self._redis.zrange(keys.DEADLINES, 0, -1))
        for start in range(0, len(unfinished), _PAGE):
            page = unfinished[start : start + _PAGE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for job_id in page:
                    pipe.hmget(keys.job_key(job_id), ["reply_channel", "caller"])
                # A record that was tampered with may be no hash.
                replies = await pipe.execute(raise_on_error=False)
            for job_id, reply in zip(page, replies, strict=True):
                if isinstance(reply, list) and caller in reply:
                    yield job_id
