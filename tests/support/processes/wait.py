"""Bounded waiting for a condition, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import overload

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


class WaitTimeoutError(AssertionError):
    """The condition did not come true in time."""


def _pauses(timeout_s: float) -> Iterator[float]:
    """Pauses in seconds that grow to 0.1 s and end when ``timeout_s`` is over."""
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def _failure(what: str, timeout_s: float, last: object) -> WaitTimeoutError:
    return WaitTimeoutError(f"waited {timeout_s:g} s for {what}; last saw {last!r}")


def wait_until[T](predicate: Callable[[], T], timeout_s: float = 10.0, what: str = "the condition") -> T:
    """Poll until ``predicate()`` is truthy and return what it returned.

    Exceptions of the predicate are not swallowed.

    Raises:
        WaitTimeoutError: it was still falsy after ``timeout_s`` seconds; names ``what`` and the last value.
    """
    last = predicate()
    for pause in _pauses(timeout_s):
        if last:
            return last
        time.sleep(pause)
        last = predicate()
    if last:
        return last
    raise _failure(what, timeout_s, last)


@overload
async def async_wait_until[T](
    predicate: Callable[[], Awaitable[T]], timeout_s: float = 10.0, what: str = "the condition"
) -> T: ...
@overload
async def async_wait_until[T](
    predicate: Callable[[], T], timeout_s: float = 10.0, what: str = "the condition"
) -> T: ...
async def async_wait_until[T](
    predicate: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, what: str = "the condition"
) -> T:
    """Like `wait_until`, without blocking the event loop; the predicate may be async."""

    async def ask() -> T:
        answer = predicate()
        return await answer if inspect.isawaitable(answer) else answer

    last = await ask()
    for pause in _pauses(timeout_s):
        if last:
            return last
        await asyncio.sleep(pause)
        last = await ask()
    if last:
        return last
    raise _failure(what, timeout_s, last)
