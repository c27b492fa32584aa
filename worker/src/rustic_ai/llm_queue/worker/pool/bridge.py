"""Await from synchronous code that an event loop called, by way of a greenlet."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]  # it ships no stubs


class _Bridge(greenlet):  # type: ignore[misc]  # untyped, see above
    """A greenlet whose parent runs the event loop."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        driver = getcurrent()
        super().__init__(fn, driver)
        # One context for both sides: what either sets, the other sees.
        self.gr_context = driver.gr_context


async def run_in_greenlet[T](fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call `fn`, in which `wait_for` may then await on this task's behalf.

    An exception of an awaitable, a cancellation too, is raised where `fn` waits for it.
    """
    bridge = _Bridge(fn)
    result: Any = bridge.switch(*args, **kwargs)
    while not bridge.dead:
        try:
            value = await result
        except BaseException:
            result = bridge.throw(*sys.exc_info())
        else:
            result = bridge.switch(value)
    return result  # type: ignore[no-any-return]  # a switch returns what `fn` returned


def in_greenlet() -> bool:
    """Whether `wait_for` may be called here."""
    return isinstance(getcurrent(), _Bridge)


def wait_for[T](awaitable: Awaitable[T]) -> T:
    """Await `awaitable` from synchronous code below `run_in_greenlet`, without blocking the loop.

    Raises what the awaitable raises, and `RuntimeError` when called anywhere else.
    """
    current = getcurrent()
    if not isinstance(current, _Bridge) or current.parent is None:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # or Python would warn that it was never awaited
        raise RuntimeError("wait_for() works only in a function that run_in_greenlet() called")
    return current.parent.switch(awaitable)  # type: ignore[no-any-return]  # a switch returns anything
