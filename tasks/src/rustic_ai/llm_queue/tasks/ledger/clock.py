from __future__ import annotations

from redis.asyncio import Redis


async def now_ms(redis: Redis) -> int:
    """Redis' clock in Unix milliseconds, on which the ledger's times are. Raises redis-py's `RedisError`."""
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
