from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class OutageTimeout:
    """Bounds how long a command waits for a Redis that answers nobody.

    The time runs from the last answer anybody had: thousands of calls that wait for their turn
    at a Redis that is well do not fail, and with one that is away all of them fail in time.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._heard_at = float("-inf")
        #: When each of those that wait began to, the first one first.
        self._waiting: dict[asyncio.Timeout, float] = {}
        self._look: asyncio.TimerHandle | None = None

    async def wait[T](self, step: Coroutine[Any, Any, T]) -> T:
        """The result of `step`. Raises `TimeoutError` after `timeout_s` without any answer."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as outage_timeout:
            self._waiting[outage_timeout] = loop.time()
            if self._look is None:
                self._look = loop.call_later(self.timeout_s, self._end_the_overdue)
            try:
                result = await step
            finally:
                del self._waiting[outage_timeout]
        self._heard_at = loop.time()
        return result

    def _end_the_overdue(self) -> None:
        # One timer for all that wait: thousands of them are begun and answered between two looks.
        loop = asyncio.get_running_loop()
        now, self._look = loop.time(), None
        for outage_timeout, began_at in self._waiting.items():
            ends_at = max(began_at, self._heard_at) + self.timeout_s
            if ends_at > now:
                self._look = loop.call_at(ends_at, self._end_the_overdue)
                return
            if not outage_timeout.expired():
                outage_timeout.reschedule(now)
