from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..jobs.leases import Leases
from ..jobs.reaper import Reaper


class PoolFigures(Protocol):
    """What the pool knows of itself."""

    limit: int

    @property
    def in_flight(self) -> int: ...

    @property
    def loop_lag_s(self) -> float: ...


class WorkerMetrics:
    """The figures that a worker has anyway, read when somebody asks."""

    def __init__(
        self, pool: PoolFigures, leases: Leases, reaper: Reaper, registry: CollectorRegistry
    ) -> None:
        self._pool, self._leases, self._reaper = pool, leases, reaper
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Prometheus' own call, at each scrape."""
        pool = self._pool
        yield GaugeMetricFamily("llm_queue_in_flight", "Jobs under way in this worker.", pool.in_flight)
        yield GaugeMetricFamily("llm_queue_concurrency_limit", "Most jobs it takes at a time.", pool.limit)
        yield GaugeMetricFamily("llm_queue_loop_lag_seconds", "How late its loop runs.", pool.loop_lag_s)
        yield CounterMetricFamily(
            "llm_queue_leases_lost",
            "Jobs that became another's while they ran.",
            self._leases.lost,
        )
        yield CounterMetricFamily(
            "llm_queue_requeued", "Jobs of lost workers that this one put back.", self._reaper.requeued
        )
