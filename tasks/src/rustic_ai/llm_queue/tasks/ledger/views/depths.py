from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import batched
from typing import Any

from redis.asyncio import Redis

from ...job import PRIORITIES
from .. import keys

_TIME_MS = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True)
class QueueDepth:
    """How many jobs of one queue and priority wait, and where."""

    queue: str
    priority: int
    waiting: int
    #: Wake-ups that lie ready for workers.
    wake_ups: int
    #: The jobs among the waiting whose turn has not come: without a wake-up.
    backlog: int


async def queue_depths(redis: Redis, queues: Iterable[str]) -> list[QueueDepth]:
    """One entry for each queue and priority, the first priority first. Raises redis-py's `RedisError`."""
    places = [(queue, priority) for queue in queues for priority in PRIORITIES]
    async with redis.pipeline(transaction=False) as pipe:
        for queue, priority in places:
            pipe.zcard(keys.queued_key(queue, priority))
            pipe.llen(keys.message_list(queue, priority))
            pipe.zcount(keys.queued_key(queue, priority), keys.UNANNOUNCED, "+inf")
        counts = await pipe.execute()
    found = batched(map(int, counts), 3, strict=True)
    return [QueueDepth(*place, *numbers) for place, numbers in zip(places, found, strict=True)]


async def oldest_waits_s(redis: Redis, queue: str) -> dict[int, float]:
    """How long the first waiting job of each priority has waited, in seconds by Redis' clock.

    A priority without a waiting job, or whose first job has no readable record, has no entry. Over a
    client with `decode_responses`. Raises redis-py's `RedisError`.
    """
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for priority in PRIORITIES:
            index = keys.queued_key(queue, priority)
            pipe.zrange(index, 0, 0)
            pipe.zrangebyscore(index, keys.UNANNOUNCED, "+inf", start=0, num=1)
        (seconds, microseconds), *heads = await pipe.execute()
        twice = [priority for priority in PRIORITIES for _ in range(2)]
        first = [(priority, head[0]) for priority, head in zip(twice, heads, strict=True) if head]
        for _, job_id in first:
            pipe.hget(keys.job_key(job_id), "created_ms")
        # A tenant writes its own jobs' records: an odd one must not hide the others.
        created = await pipe.execute(raise_on_error=False) if first else []
    now_s = seconds + microseconds / 1e6
    waits_s: dict[int, float] = {}
    for (priority, _), value in zip(first, created, strict=True):
        if (at := _time_ms(value)) is not None:
            waits_s[priority] = max(waits_s.get(priority, 0.0), now_s - at / 1000)
    return waits_s


def _time_ms(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and _TIME_MS.fullmatch(value) else None
