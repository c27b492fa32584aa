from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class LoopInbox:
    """What other threads have for an event loop: it is woken up once for all that gathers until it looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._steps: list[Callable[[], None]] = []

    def put(self, step: Callable[[], None]) -> None:
        """Have the loop take `step`, from any thread. Raises `RuntimeError` when the loop is closed.

        Args:
            step: raises nothing, or those that came with it are lost.
        """
        with self._lock:
            # A loop that was closed before it looked takes nothing any more.
            if not self._steps or self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._take)
            self._steps.append(step)

    def _take(self) -> None:
        with self._lock:
            steps, self._steps = self._steps, []
        for step in steps:
            step()
