from __future__ import annotations

import asyncio
import logging
from typing import cast

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.job import PRIORITIES, Priority
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.keys import QUARANTINE as QUARANTINE_KEY
from rustic_ai.llm_queue.tasks.redis_client import OUTAGE_ERRORS

logger = logging.getLogger(__name__)

_EVERY_S = 5.0
_REDIS_FAILS: tuple[type[Exception], ...] = (RedisError, *OUTAGE_ERRORS)


class QueueMetrics:
    """Looks at the queue every few seconds, so that a scrape never waits for Redis: a `Service`.

    Every worker shows the same; a query takes the maximum of them.
    """

    def __init__(self, redis: Redis, *, queue: str, registry: CollectorRegistry) -> None:
        self._redis, self._queue = redis, queue
        self._depth = Gauge(
            "llm_queue_queue_depth", "Jobs that wait.", ("queue", "priority"), registry=registry
        )
        self._oldest_s = Gauge(
            "llm_queue_oldest_wait_seconds",
            "How long the longest-waiting job has waited; 0 when none does.",
            ("queue",),
            registry=registry,
        )
        self._quarantined = Gauge(
            "llm_queue_quarantined",
            "Messages that no worker would take.",
            registry=registry,
        )
        self._dead = Gauge("llm_queue_dead_jobs", "Failed jobs that can be replayed.", registry=registry)
        self._up = Gauge("llm_queue_redis_up", "1 while Redis answers, else 0.", registry=registry)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look()
                self._up.set(1)
            except _REDIS_FAILS as error:
                self._up.set(0)
                logger.debug("The queue could not be looked at: %s", type(error).__name__)
            await asyncio.sleep(_EVERY_S)

    async def _look(self) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.llen(QUARANTINE_KEY)
        pipe.zcard(keys.DEAD)
        for priority in PRIORITIES:
            index = keys.queued_key(self._queue, priority)
            pipe.zcard(index)
            pipe.zrange(index, 0, 0)
        (seconds, microseconds), quarantined, dead, *rest = await pipe.execute()
        self._quarantined.set(quarantined)
        self._dead.set(dead)
        first: list[str] = []
        for priority, depth, head in zip(PRIORITIES, rest[::2], rest[1::2], strict=True):
            self._show_depth(priority, depth)
            first += head
        now_s = seconds + microseconds / 1e6
        self._oldest_s.labels(self._queue).set(await self._longest_wait_s(first, now_s))

    def _show_depth(self, priority: Priority, depth: int) -> None:
        self._depth.labels(self._queue, str(priority)).set(depth)

    async def _longest_wait_s(self, job_ids: list[str], now_s: float) -> float:
        if not job_ids:
            return 0.0
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(keys.job_key(job_id), "created_ms")
        created = cast("list[str | None]", await pipe.execute())
        waits = [now_s - int(at) / 1000 for at in created if at is not None and at.isdecimal()]
        return max([0.0, *waits])
