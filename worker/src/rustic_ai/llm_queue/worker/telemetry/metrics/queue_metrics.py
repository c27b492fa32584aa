from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.views.depths import oldest_waits_s, queue_depths
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule

from .budget_metrics import BudgetMetrics
from .limit_metrics import LimitMetrics
from .share_metrics import ShareMetrics

logger = logging.getLogger(__name__)

_EVERY_S = 5.0
_REDIS_FAILS: tuple[type[Exception], ...] = (RedisError, *OUTAGE_ERRORS)


class QueueMetrics:
    """Looks at the queue every few seconds, so that a scrape never waits for Redis: a `Service`.

    Every worker shows the same; a query takes the maximum of them.
    """

    def __init__(
        self, redis: Redis, *, queue: str, limits: Sequence[LimitRule], registry: CollectorRegistry
    ) -> None:
        self._redis, self._queue = redis, queue
        self._depth = Gauge(
            "llm_queue_queue_depth", "Jobs that wait.", ("queue", "priority"), registry=registry
        )
        self._backlog = Gauge(
            "llm_queue_backlog",
            "Jobs among those that wait whose turn has not come.",
            ("queue", "priority"),
            registry=registry,
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
        self._limits = LimitMetrics(redis, limits, registry=registry)
        self._budgets = BudgetMetrics(redis, registry=registry)
        self._shares = ShareMetrics(redis, queue, registry=registry)
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
        pipe.llen(keys.QUARANTINE)
        pipe.zcard(keys.DEAD)
        quarantined, dead = await pipe.execute()
        self._quarantined.set(quarantined)
        self._dead.set(dead)
        for one in await queue_depths(self._redis, [self._queue]):
            self._depth.labels(self._queue, str(one.priority)).set(one.waiting)
            self._backlog.labels(self._queue, str(one.priority)).set(one.backlog)
        waits_s = (await oldest_waits_s(self._redis, self._queue)).values()
        self._oldest_s.labels(self._queue).set(max(waits_s, default=0.0))
        await self._limits.look()
        await self._budgets.look()
        await self._shares.look()
