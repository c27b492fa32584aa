from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, ProcessCollector

from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule

from ...jobs.leases import Leases
from ...jobs.observers import Observer
from ...jobs.reaper import Reaper
from ...pool.loop import Service
from ...reuse.counters import ReuseCounters
from ...settings import WorkerSettings
from .embedding_metrics import EmbeddingMetrics
from .job_metrics import JobMetrics
from .metrics_server import MetricsServer
from .queue_metrics import QueueMetrics
from .worker_metrics import PoolFigures, WorkerMetrics


class Metrics:
    """All that a worker shows Prometheus."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.observers: Sequence[Observer] = (JobMetrics(self.registry),)
        self.embeddings = EmbeddingMetrics(self.registry)
        # Not the jobs' connections, and no second try: a look that fails is a figure, too.
        self._redis = connect(settings.redis_url, outage_s=0, key_tag=settings.key_tag, max_connections=1)

    def services(
        self,
        pool: PoolFigures,
        leases: Leases,
        reaper: Reaper,
        reuse: ReuseCounters,
        limits: Sequence[LimitRule],
    ) -> list[Service]:
        """What runs for it beside the jobs. `limits` are all that calls pass here."""
        WorkerMetrics(pool, leases, reaper, reuse, self.registry)
        settings = self._settings
        return [
            QueueMetrics(self._redis, queue=settings.queue, limits=limits, registry=self.registry),
            MetricsServer(self.registry, host=settings.metrics_host, port=settings.metrics_port),
        ]

    async def close(self) -> None:
        """Close its connection."""
        await self._redis.aclose()
