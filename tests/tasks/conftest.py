"""Fixtures of the contract's tests: a client of the session's server, and a ledger on it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """An empty database."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """Keeps results for five minutes."""
    return Ledger(redis, result_ttl=timedelta(minutes=5))
