from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.views.depths import QueueDepth, queue_depths


class QueueDepths:
    """Depths from the ledger; Flower by itself knows neither our URL schemes nor the ledger."""

    def __init__(self, redis_url: str, key_tag: str = "") -> None:
        self._redis_url, self._key_tag = redis_url, key_tag

    async def of(self, queues: Iterable[str]) -> list[QueueDepth]:
        """One entry for each queue and priority, the first priority first.

        Raises redis-py's errors when Redis is away.
        """
        async with connect(self._redis_url, outage_s=0, key_tag=self._key_tag) as redis:
            return await queue_depths(redis, queues)

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Flower's own form: the waiting jobs of each queue, as its messages."""
        totals = dict.fromkeys(names, 0)
        for depth in await self.of(list(totals)):
            totals[depth.queue] += depth.waiting
        return [{"name": name, "messages": waiting} for name, waiting in totals.items()]
