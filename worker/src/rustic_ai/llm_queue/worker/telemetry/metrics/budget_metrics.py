from __future__ import annotations

from collections import defaultdict

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView

_LABELS = ("budget", "unit")


class BudgetMetrics:
    """How budgets stand in the period under way, by name: the sum over what a name is split by."""

    def __init__(self, redis: Redis, *, registry: CollectorRegistry) -> None:
        self._view = BudgetView(redis)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"llm_queue_budget_{name}", meaning, _LABELS, registry=registry)

        self._spent = gauge("spent", "Dollars or tokens that a budget has spent in the period under way.")
        self._held = gauge("held", "Dollars or tokens that calls under way may take of a budget at the most.")
        self._limit = gauge("limit", "Dollars or tokens of a budget in the period under way.")
        self._used = gauge("used_ratio", "Part of a budget that is spent: of the fullest, where it is split.")
        self._doubtful = gauge("doubtful", "Dollars or tokens among those spent, of calls that were lost.")
        self._overshoot = gauge("overshoot", "Dollars or tokens that calls took beyond what they had held.")
        self._waiting = gauge("waiting", "Jobs that wait for a budget.")

    async def look(self) -> None:
        """Bring the figures up to date. Raises redis-py's `RedisError`."""
        by_name: dict[tuple[str, str], list[BudgetRow]] = defaultdict(list)
        for row in await self._view.rows():
            if not row.is_over:
                by_name[row.name, row.unit].append(row)
        for one in self._all():
            # A budget that is not in use any more shows no figure.
            one.clear()
        for labels, rows in by_name.items():
            self._spent.labels(*labels).set(sum(row.spent for row in rows))
            self._held.labels(*labels).set(sum(row.held for row in rows))
            self._limit.labels(*labels).set(sum(row.limit for row in rows))
            self._used.labels(*labels).set(max(row.spent / row.limit if row.limit else 1.0 for row in rows))
            self._doubtful.labels(*labels).set(sum(row.doubtful for row in rows))
            self._overshoot.labels(*labels).set(sum(row.overshoot for row in rows))
            self._waiting.labels(*labels).set(sum(row.waiting for row in rows))

    def _all(self) -> tuple[Gauge, ...]:
        return (
            *(self._spent, self._held, self._limit, self._used),
            *(self._doubtful, self._overshoot, self._waiting),
        )
