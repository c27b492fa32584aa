"""What an operator asks of the cache of answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import batched
from typing import cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger import keys

from .entries import LISTED_FOR, cleared_by

#: Answers looked at, and those in one command.
_MOST_COUNTED, _AT_ONCE = 100_000, 1_000


@dataclass(frozen=True)
class CacheStats:
    """What is kept."""

    answers: int
    scopes: int
    #: There are more answers than were counted.
    cut_short: bool


async def cache_stats(redis: Redis) -> CacheStats:
    """Count what is kept, up to a hundred thousand answers. Raises redis-py's `RedisError`."""
    await redis.zremrangebyscore(keys.CACHE_SCOPES, "-inf", time.time() - LISTED_FOR.total_seconds())
    scopes = cast("list[str]", await redis.zrange(keys.CACHE_SCOPES, 0, -1))
    names: list[str] = []
    for scope in scopes:
        names += cast("list[str]", await redis.zrange(scope, 0, _MOST_COUNTED - len(names)))
        if len(names) > _MOST_COUNTED:
            break
    counted = names[:_MOST_COUNTED]
    kept = [
        await redis.exists(*(keys.cache_key(name) for name in some))
        for some in batched(counted, _AT_ONCE, strict=False)
    ]
    return CacheStats(sum(kept), len(scopes), len(names) > len(counted))


async def clear_cache(redis: Redis, *, org: str | None = None, guild: str | None = None) -> None:
    """Make every answer that was kept before now a miss: an organisation's, a guild's of it, or all.

    What guilds of an organisation share is cleared with each of them. Raises redis-py's `RedisError`.
    """
    pipe = redis.pipeline()
    for counter in cleared_by(org, guild):
        pipe.set(counter, time.time_ns(), px=LISTED_FOR)
    await pipe.execute()
