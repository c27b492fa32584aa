from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitRow, LimitView
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule

from ...admission.call_limits import LimitRoom, rooms

#: How a pause without an end is shown.
_FOR_EVER_S = 1e9


class LimitMetrics:
    """How limits stand, by name: the sum, or the longest, over a name's buckets."""

    def __init__(self, redis: Redis, rules: Sequence[LimitRule], *, registry: CollectorRegistry) -> None:
        self._rooms = {rule.name: rooms(rule) for rule in rules}
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

        self._used = Gauge(
            "llm_queue_limit_used_ratio",
            "Part of a limit that is taken, of the fullest where it is split: of what may go at once by a "
            "rate, or of its calls at once. 1: the next call waits.",
            ("limit", "dimension"),
            registry=registry,
        )

    async def look(self) -> None:
        """Bring the figures up to date. Raises redis-py's `RedisError`."""
        counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        used: dict[tuple[str, str], float] = defaultdict(float)
        for row in await self._view.rows():
            for room in self._rooms.get(row.name, ()):
                key = (row.name, room.dimension)
                used[key] = max(used[key], min(_taken(row, room) / room.most, 1.0))
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
        self._used.clear()
        for labels, ratio in used.items():
            self._used.labels(*labels).set(ratio)


def _taken(row: LimitRow, room: LimitRoom) -> float:
    match room.dimension:
        case "rpm":
            return row.requests_s
        case "otpm":
            return row.output_s
        case "max_parallel_requests":
            return row.running
        case _:
            return row.tokens_s
