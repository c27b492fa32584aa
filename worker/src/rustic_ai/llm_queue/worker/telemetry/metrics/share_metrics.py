from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.views.shares import Shares, by_org

#: Organisations with figures of their own, those with most waiting jobs first; tenants choose the names.
_MOST_ORGS = 50
_LABELS = ("org",)


class ShareMetrics:
    """How the organisations fare that wait, run, or got an answer in the latest minutes."""

    def __init__(self, redis: Redis, queue: str, *, registry: CollectorRegistry) -> None:
        self._shares, self._queue = Shares(redis), queue

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"llm_queue_org_{name}", meaning, _LABELS, registry=registry)

        self._waiting = gauge("waiting", "Jobs of an organisation that wait.")
        self._running = gauge("running", "Jobs of an organisation that run.")
        self._share = gauge("share_ratio", "Part of all tokens of the latest minutes.")
        self._wait = gauge("wait_p95_seconds", "Wait for a worker of 19 of 20 jobs in the latest minutes.")

    async def look(self) -> None:
        """Bring the figures up to date. Raises redis-py's `RedisError`."""
        rows = by_org(await self._shares.rows(self._queue))
        for one in (self._waiting, self._running, self._share, self._wait):
            one.clear()
        for row in rows[:_MOST_ORGS]:
            self._waiting.labels(row.org).set(row.waiting)
            self._running.labels(row.org).set(row.running)
            self._share.labels(row.org).set(row.share)
            self._wait.labels(row.org).set(row.wait_p95_s)
