from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class LoopInbox:
    """Steps that other threads hand to an event loop, which is woken up once for all that have gathered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._steps: list[Callable[[], None]] = []
        self._closed = False

    def put(self, step: Callable[[], None]) -> None:
        """Have the loop take `step`, from any thread. Raises `RuntimeError` when it is closed.

        Args:
            step: raises nothing, or those that came with it are lost.
        """

        def append() -> None:
            # Raises when the loop was closed before it looked.
            if not self._steps or self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._take)
            self._steps.append(step)

        self.admit(append)

    def admit[R](self, hand_over: Callable[[], R]) -> R:
        """Run `hand_over` here: what it hands to the loop runs before `close`.

        Raises `RuntimeError` after it.
        """
        # No context manager of our own: a Ctrl-C within one may leave the lock held.
        with self._lock:
            if self._closed:
                raise RuntimeError("the event loop takes nothing any more")
            return hand_over()

    def close(self) -> None:
        """Take what has come, on the loop's thread, and refuse what comes from here on."""
        with self._lock:
            self._closed = True
        self._take()

    def _take(self) -> None:
        with self._lock:
            steps, self._steps = self._steps, []
        for step in steps:
            step()
