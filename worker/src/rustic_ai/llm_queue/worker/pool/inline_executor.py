from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_in_place: ContextVar[bool] = ContextVar("in_place", default=False)


@contextmanager
def in_place(allowed: bool) -> Iterator[None]:
    """What is given to a `PromptExecutor` in here runs at once, where it is given."""
    token = _in_place.set(allowed)
    try:
        yield
    finally:
        _in_place.reset(token)


async def in_thread[T](fn: Callable[[], T]) -> T:
    """Run `fn` in a thread, whatever is allowed here: all other calls wait for what is done on the loop."""
    with in_place(False):
        return await asyncio.to_thread(fn)


async def in_thread_if[T](large: bool, fn: Callable[[], T]) -> T:
    """Run `fn` in a thread if it is `large`, else here and now."""
    return await in_thread(fn) if large else fn()


class PromptExecutor(ThreadPoolExecutor):
    """An event loop's default executor that can do without its threads.

    LiteLLM hands the making of every call to the loop's executor, since for some providers it blocks. For
    the others two changes of thread cost more than the work itself.
    """

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, or here and now."""
        if not _in_place.get():
            return super().submit(fn, *args, **kwargs)
        done: Future[Any] = Future()
        token = _in_place.set(False)
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        finally:
            _in_place.reset(token)
        return done
