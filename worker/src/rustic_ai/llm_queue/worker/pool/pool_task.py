from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery.exceptions import Ignore

from .bridge import run_in_greenlet

#: What Celery hands over for later, of all its options.
_KEPT = ("accept_callback", "timeout_callback", "callback", "error_callback", "timeout")
_current: ContextVar[PoolTask] = ContextVar("pool_task")


class CancelReason(StrEnum):
    """Why a job's asyncio task was cancelled."""

    REVOKED = "revoked"
    SHUTDOWN = "shutdown"
    TIME_LIMIT = "time limit"


@dataclass(frozen=True)
class Ending:
    """How a task's tracer came back: with Celery's own verdict, or with an exception."""

    verdict: Any = None
    error: BaseException | None = None


class TaskOwner(Protocol):
    """The pool, as a task sees it."""

    loop: Any

    def ended(self, task: PoolTask, ending: Ending) -> None: ...

    def withdraw(self, task: PoolTask) -> None: ...


def cancel_reason() -> CancelReason | None:
    """Why the job this code runs for was cancelled; None if it was not, or outside a job."""
    task = _current.get(None)
    return task.reason if task is not None else None


class PoolTask:
    """One task Celery handed to the pool.

    Celery keeps it as the apply result, so `terminate` is Celery's.
    """

    __slots__ = (
        "__weakref__",
        "_call",
        "_options",
        "_owner",
        "_task",
        "_time_limit",
        "pid",
        "reason",
        "task_id",
    )

    def __init__(
        self,
        owner: TaskOwner,
        pid: int,
        target: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self.pid = pid
        self.task_id: str | None = options.get("correlation_id")
        self.reason: CancelReason | None = None
        self._owner = owner
        self._call = partial(target, *args, **kwargs)
        self._options = {name: options[name] for name in _KEPT if options.get(name) is not None}
        self._task: asyncio.Task[Ending] | None = None
        self._time_limit: asyncio.TimerHandle | None = None

    # On the main thread

    def accept(self) -> None:
        """Tell Celery that the job has its place."""
        if callback := self._options.pop("accept_callback", None):
            callback(self.pid, time.monotonic())

    def terminate(self, signal: int | None = None) -> None:
        """Celery's own call beside `terminate_job`; only a job that still waits needs it."""
        self._owner.withdraw(self)

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the job's asyncio task, from any thread; only the first call does.

        Another one would be raised in the middle of what the job does about the first.
        """
        if self.reason is not None:
            return
        self.reason = reason
        self._owner.loop.call_soon_threadsafe(self._cancel)

    def report(self, ending: Ending) -> None:
        """Give Celery the verdict."""
        if self.reason is CancelReason.TIME_LIMIT:
            self._options["timeout_callback"](False, self._options["timeout"])
        elif self.reason is CancelReason.REVOKED:
            self._fail(Terminated("cancelled"))
        elif self.reason is CancelReason.SHUTDOWN and ending.error is not None:
            # Another worker takes the job over: for Celery it has not ended.
            self._fail(Ignore())
        elif ending.error is not None:
            self._fail(WorkerLostError(f"task ended by {ending.error!r}"))
        elif callback := self._options.get("callback"):
            callback(ending.verdict)

    def _fail(self, error: Exception) -> None:
        callback = self._options.get("error_callback")
        if callback is None:
            return
        try:
            raise error
        except type(error):
            callback(ExceptionInfo())

    # On the event loop

    def start(self) -> None:
        """Begin to run the tracer."""
        if self.reason is not None:
            self._owner.ended(self, Ending(error=asyncio.CancelledError()))
            return
        loop = self._owner.loop
        self._task = loop.create_task(self._run(), name=self.task_id)
        self._task.add_done_callback(self._done)
        if limit_s := self._options.get("timeout"):
            self._time_limit = loop.call_later(limit_s, self.cancel, CancelReason.TIME_LIMIT)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> Ending:
        _current.set(self)
        try:
            return Ending(await run_in_greenlet(self._call))
        except BaseException as error:
            # Not even SystemExit may leave a job: it would end the event loop of all the others.
            return Ending(error=error)

    def _done(self, task: asyncio.Task[Ending]) -> None:
        if self._time_limit is not None:
            self._time_limit.cancel()
        if task.cancelled():  # before its first step
            self._owner.ended(self, Ending(error=asyncio.CancelledError()))
        else:
            self._owner.ended(self, task.result())


def mark_revoked() -> None:
    """Make Celery report the current job as revoked; its own work has ended already."""
    task = _current.get(None)
    if task is not None:
        task.reason = task.reason or CancelReason.REVOKED
