from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress

from .loop_call import as_coroutine
from .loop_inbox import LoopInbox


class ThreadCall[T]:
    """A coroutine that runs on an event loop for a caller in a thread.

    Does what `asyncio.run_coroutine_threadsafe` does, but for a caller that a Ctrl-C may hit at any moment:
    even before it knows that the coroutine was handed over, and while it begins to wait. A `Future` hit then
    may keep its lock, and the loop would wait for that for ever.
    """

    def __init__(self, coro_fn: Callable[[], Awaitable[T]], there: LoopInbox) -> None:
        self._coro_fn = coro_fn
        self._there = there
        self._task: asyncio.Task[T] | None = None
        self._left = False
        self._under_way = threading.Lock()
        self._under_way.acquire()

    def result(self) -> T:
        """Run it there and wait. Whatever ends the wait cancels it.

        Raises `RuntimeError` when the loop has ended, `concurrent.futures.CancelledError` when it ends
        meanwhile.
        """
        try:
            self._there.admit(lambda: self._there.loop.call_soon_threadsafe(self._start))
            self._under_way.acquire()
        except BaseException:
            self._leave()
            raise
        assert self._task is not None
        if self._task.cancelled():
            raise CancelledError
        return self._task.result()

    def _start(self) -> None:
        if not self._left:
            self._task = self._there.loop.create_task(as_coroutine(self._coro_fn))
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # seen, though its caller may be gone
        self._under_way.release()

    def _leave(self) -> None:
        self._left = True
        with suppress(RuntimeError):  # a closed loop has nothing left to cancel
            self._there.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
