from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ...jobs.leases import Leases
from ...jobs.reaper import Reaper
from ...reuse.counters import ReuseCounters


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
        self,
        pool: PoolFigures,
        leases: Leases,
        reaper: Reaper,
        reuse: ReuseCounters,
        registry: CollectorRegistry,
    ) -> None:
        self._pool, self._leases, self._reaper, self._reuse = pool, leases, reaper, reuse
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
        yield CounterMetricFamily(
            "llm_queue_lifted", "Jobs that went up a priority after a long wait.", self._reaper.lifted
        )
        yield from self._of_reuse()

    def _of_reuse(self) -> Iterable[Metric]:
        reuse = self._reuse
        for name, meaning, value in (
            ("hits", "Calls answered from the cache.", reuse.hits),
            ("misses", "Calls that asked the cache and found no answer.", reuse.misses),
            ("flights", "Calls that equal ones could join.", reuse.flights),
            ("joined", "Jobs answered by an equal call of another job.", reuse.joined),
            ("unreadable", "Entries that did not open, and were deleted.", reuse.unreadable),
        ):
            yield CounterMetricFamily(f"llm_queue_cache_{name}", meaning, value)
