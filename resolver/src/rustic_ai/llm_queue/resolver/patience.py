from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Patience:
    """Bounds how long a command waits for a Redis that answers nobody.

    The time runs from the last answer anybody had: thousands of calls that wait for their turn
    at a Redis that is well do not fail, and with one that is away all of them fail in time.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._heard_at = float("-inf")

    async def wait[T](self, step: Coroutine[Any, Any, T]) -> T:
        """The result of `step`. Raises `TimeoutError` after `timeout_s` without any answer."""
        clock = asyncio.get_running_loop().time
        started_at = clock()
        task = asyncio.create_task(step)
        try:
            while True:
                left_s = max(started_at, self._heard_at) + self.timeout_s - clock()
                if left_s <= 0:
                    raise TimeoutError
                await asyncio.wait([task], timeout=left_s)
                if task.done():
                    result = task.result()
                    self._heard_at = clock()
                    return result
        finally:
            task.cancel()
