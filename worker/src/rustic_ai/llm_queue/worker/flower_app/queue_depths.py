from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rustic_ai.llm_queue.tasks.job import PRIORITIES
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.redis_client import connect


@dataclass(frozen=True)
class QueueDepth:
    """How many jobs of one queue and priority wait, and how many of their wake-ups lie in Redis."""

    queue: str
    priority: int
    waiting: int
    wake_ups: int


class QueueDepths:
    """Depths from the ledger; Flower by itself knows neither our URL schemes nor the ledger."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    async def of(self, queues: Iterable[str]) -> list[QueueDepth]:
        """One entry for each queue and priority, the first priority first.

        Raises redis-py's errors when Redis is away.
        """
        places = [(queue, priority) for queue in queues for priority in PRIORITIES]
        client = connect(self._redis_url, outage_s=0)
        try:
            async with client.pipeline(transaction=False) as pipeline:
                for queue, priority in places:
                    pipeline.zcard(keys.queued_key(queue, priority))
                    pipeline.llen(keys.message_list(queue, priority))
                counts = await pipeline.execute()
        finally:
            await client.aclose()
        return [
            QueueDepth(queue, priority, int(counts[2 * at]), int(counts[2 * at + 1]))
            for at, (queue, priority) in enumerate(places)
        ]

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Flower's own form: the waiting jobs of each queue, as its messages."""
        totals = dict.fromkeys(names, 0)
        for depth in await self.of(list(totals)):
            totals[depth.queue] += depth.waiting
        return [{"name": name, "messages": waiting} for name, waiting in totals.items()]
