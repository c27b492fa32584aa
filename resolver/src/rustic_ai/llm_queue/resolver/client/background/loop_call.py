from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from .loop_inbox import LoopInbox

_here = threading.local()


class LoopCall[T]:
    """A coroutine that runs on one event loop for a caller on another.

    Does what `asyncio.run_coroutine_threadsafe` and `wrap_future` do together, at less than half the cost
    where many cross at once: a loop is not woken up for each.
    """

    def __init__(self, coro_fn: Callable[[], Awaitable[T]], there: LoopInbox) -> None:
        self._coro_fn = coro_fn
        self._there, self._home = there, _inbox_here()
        self._context = contextvars.copy_context()
        self._answer: asyncio.Future[T] = self._home.loop.create_future()
        self._task: asyncio.Task[T] | None = None

    async def result(self) -> T:
        """Run it there and wait. Cancelling this cancels that."""
        self._there.put(self._start)
        try:
            return await self._answer
        except asyncio.CancelledError:
            with suppress(RuntimeError):  # a closed loop has nothing left to cancel
                self._there.put(self._cancel)
            raise

    def _start(self) -> None:
        self._task = self._there.loop.create_task(as_coroutine(self._coro_fn), context=self._context)
        self._task.add_done_callback(self._ended)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # seen, though its caller may be gone
        with suppress(RuntimeError):  # the caller's loop has been closed
            self._home.put(self._arrive)

    def _arrive(self) -> None:
        task = self._task
        if task is None or self._answer.done():
            return
        if task.cancelled():
            self._answer.cancel()
        elif (error := task.exception()) is not None:
            self._answer.set_exception(error)
        else:
            self._answer.set_result(task.result())


def _inbox_here() -> LoopInbox:
    """The inbox of the running loop, one for as long as a thread runs the same."""
    loop = asyncio.get_running_loop()
    inbox: LoopInbox | None = getattr(_here, "inbox", None)
    if inbox is None or inbox.loop is not loop:
        inbox = _here.inbox = LoopInbox(loop)
    return inbox


async def as_coroutine[T](coro_fn: Callable[[], Awaitable[T]]) -> T:
    """What `coro_fn` gives, as the coroutine that a task is made of."""
    return await coro_fn()
