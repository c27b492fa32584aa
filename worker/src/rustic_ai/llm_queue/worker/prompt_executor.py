from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

_in_place: ContextVar[bool] = ContextVar("in_place", default=False)


class in_place:  # noqa: N801  # read as a verb, as contextlib's are
    """What is given to a `PromptExecutor` in here runs at once, where it is given."""

    __slots__ = ("_allowed", "_token")

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def __enter__(self) -> None:
        self._token = _in_place.set(self._allowed)

    def __exit__(self, *_: object) -> None:
        _in_place.reset(self._token)


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
