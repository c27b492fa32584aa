from __future__ import annotations

from collections import defaultdict

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitView

#: How a pause without an end is shown.
_FOR_EVER_S = 1e9


class LimitMetrics:
    """How limits stand, by name: the sum, or the longest, over a name's buckets."""

    def __init__(self, redis: Redis, *, registry: CollectorRegistry) -> None:
        self._view = LimitView(redis)
        self._waiting = Gauge(
            "llm_queue_limit_waiting", "Jobs that wait for a limit.", ("limit",), registry=registry
        )
        self._running = Gauge(
            "llm_queue_limit_running",
            "Jobs that run within a limit on calls at once.",
            ("limit",),
            registry=registry,
        )
        self._oldest_s = Gauge(
            "llm_queue_limit_oldest_wait_seconds",
            "How long ago the job was submitted that has waited longest for a limit.",
            ("limit",),
            registry=registry,
        )
        self._closed_s = Gauge(
            "llm_queue_limit_closed_seconds",
            "Seconds until a limit opens that a provider has closed or an operator has paused.",
            ("limit",),
            registry=registry,
        )

    async def look(self) -> None:
        """Bring the figures up to date. Raises redis-py's `RedisError`."""
        counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        for row in await self._view.rows():
            sums = counts[row.name]
            paused_s = _FOR_EVER_S if row.paused_s is None else row.paused_s
            sums[0] += row.waiting
            sums[1] += row.running
            sums[2] = max(sums[2], row.oldest_wait_s if row.waiting else 0.0)
            sums[3] = max(sums[3], row.closed_s, paused_s)
        gauges = (self._waiting, self._running, self._oldest_s, self._closed_s)
        for at, gauge in enumerate(gauges):
            # A limit that is not in use any more shows no figure.
            gauge.clear()
            for name, sums in counts.items():
                gauge.labels(name).set(sums[at])
