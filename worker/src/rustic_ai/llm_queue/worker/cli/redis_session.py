from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.cluster_mode import refuse_cluster_mode
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.settings import QueueSettings


def on_redis[T](work: Callable[[Redis, QueueSettings], Awaitable[T]], settings: QueueSettings) -> T:
    """Do `work` with a connection of the settings', which is closed afterwards.

    What Redis raises is left to `main`, which says what to do about it. Raises `SettingsError` for a Redis
    that is in cluster mode and not set up as one.
    """

    async def session() -> T:
        # An operator waits at the terminal: report at once that Redis is away.
        async with connect(settings.redis_url, outage_s=0, key_tag=settings.key_tag) as redis:
            await refuse_cluster_mode(redis, settings.redis_url)
            return await work(redis, settings)

    return asyncio.run(session())
