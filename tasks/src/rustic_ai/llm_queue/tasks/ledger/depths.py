from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from ..job import PRIORITIES
from . import keys

_TIME_MS = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True)
class QueueDepth:
    """How many jobs of one queue and priority wait, and how many of their wake-ups lie in Redis."""

    queue: str
    priority: int
    waiting: int
    wake_ups: int


async def queue_depths(redis: Redis, queues: Iterable[str]) -> list[QueueDepth]:
    """One entry for each queue and priority, the first priority first. Raises redis-py's `RedisError`."""
    places = [(queue, priority) for queue in queues for priority in PRIORITIES]
    async with redis.pipeline(transaction=False) as pipe:
        for queue, priority in places:
            pipe.zcard(keys.queued_key(queue, priority))
            pipe.llen(keys.message_list(queue, priority))
        counts = await pipe.execute()
    return [
        QueueDepth(queue, priority, int(waiting), int(wake_ups))
        for (queue, priority), waiting, wake_ups in zip(places, counts[::2], counts[1::2], strict=True)
    ]


async def oldest_waits_s(redis: Redis, queue: str) -> dict[int, float]:
    """How long the first waiting job of each priority has waited, in seconds by Redis' clock.

    A priority without a waiting job, or whose first job has no readable record, has no entry. Over a
    client with `decode_responses`. Raises redis-py's `RedisError`.
    """
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for priority in PRIORITIES:
            pipe.zrange(keys.queued_key(queue, priority), 0, 0)
        (seconds, microseconds), *heads = await pipe.execute()
        first = {priority: head[0] for priority, head in zip(PRIORITIES, heads, strict=True) if head}
        for job_id in first.values():
            pipe.hget(keys.job_key(job_id), "created_ms")
        # A tenant writes its own jobs' records: an odd one must not hide the others.
        created = await pipe.execute(raise_on_error=False) if first else []
    now_s = seconds + microseconds / 1e6
    times = {priority: _time_ms(value) for priority, value in zip(first, created, strict=True)}
    return {priority: max(now_s - at / 1000, 0.0) for priority, at in times.items() if at is not None}


def _time_ms(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and _TIME_MS.fullmatch(value) else None
