"""A clock of the test's own in place of the server's, for the ledger's functions alone."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.functions import library

_KEY = "llmq:test-clock"
_LUA = f"""
local function moved_time()
  local us = tonumber(redis.call('GET', '{_KEY}'))
  return {{math.floor(us / 1000000), us % 1000000}}
end
"""


class MovedClock:
    """Stands still until it is moved. Times are those of the functions; keys expire by the server's."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @classmethod
    async def in_place_of_time(cls, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
        """Have every function read this clock. Only this test's copy of the library is changed."""
        source = library.library_source()
        name, header = library.library_name(), source.index("\n") + 1
        moved = source[:header] + _LUA + source[header:].replace("redis.call('TIME')", "moved_time()")
        monkeypatch.setattr(library, "library_name", lambda _prefix: f"{name}_moved")
        monkeypatch.setattr(library, "library_source", lambda _prefix: moved.replace(name, f"{name}_moved"))
        clock = cls(redis)
        seconds, _ = await redis.time()
        await redis.set(_KEY, int(seconds) * 1_000_000)
        return clock

    async def move(self, seconds: float) -> None:
        """Let time pass."""
        await self._redis.incrby(_KEY, round(seconds * 1_000_000))

    async def now_ms(self) -> int:
        """The time as records have it."""
        return int(str(await self._redis.get(_KEY))) // 1000
