"""Jobs that need two limits, both of them full, are not passed over."""

import pytest
from redis.asyncio import Redis

from faults.shows.limit_order import Order

pytestmark = pytest.mark.leaves_keys("llm")
PLACES = 4


async def test_who_needs_two_full_limits_is_overtaken_by_few(redis: Redis) -> None:
    order = Order(redis, jobs=120, places=PLACES, seed=1)
    late = await order.run()
    assert len(order.passed) == 120
    assert len(late) == 12
    assert max(late) <= 2 * PLACES
