from __future__ import annotations

from functools import partial

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import SOCKET_TIMEOUT_S, connect

from .settings import WorkerSettings

#: A cache slower than this is worth nothing.
_CACHE_TIMEOUT_S = 1.0


class RedisClients:
    """A worker's connections to Redis, by what they are for."""

    def __init__(self, settings: WorkerSettings) -> None:
        outage_s = settings.outage.total_seconds()
        to_redis = partial(connect, key_tag=settings.key_tag)
        #: The jobs' own commands.
        self.jobs: Redis = to_redis(settings.redis_url, outage_s=outage_s)
        #: What only waits for messages.
        self.listening: Redis = to_redis(settings.redis_url, outage_s=0)
        #: Renewals, which never wait in line behind the jobs' commands, nor for a dead connection.
        self.keeping: Redis = to_redis(
            settings.redis_url,
            outage_s=outage_s,
            max_connections=4,
            socket_timeout=min(settings.beat.total_seconds(), SOCKET_TIMEOUT_S),
        )
        #: Kept answers. A cache that is away is a miss at once: its calls are not tried again.
        self.cache: Redis = (
            to_redis(settings.cache_url, outage_s=0, socket_timeout=_CACHE_TIMEOUT_S)
            if settings.cache_url
            else self.jobs
        )

    async def close(self) -> None:
        """Close them all."""
        for client in {self.jobs, self.keeping, self.listening, self.cache}:
            await client.aclose()
