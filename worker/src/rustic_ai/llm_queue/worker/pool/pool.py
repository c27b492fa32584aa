"""A Celery pool whose tasks are asyncio tasks of one event loop.

Celery's state belongs to its main thread, and nothing may block the event loop: so a job is
accepted and reported on the main thread, and only its tracer runs on the loop.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state as worker_state
from kombu.asynchronous import Hub
from vine import promise

from .loop import LoopThread, Service
from .pool_task import CancelReason, Ending, PoolTask
from .process_memory import rss_bytes

logger = logging.getLogger(__name__)

#: Celery settings of ours, in seconds.
DRAIN_TIMEOUT_CONF = "llm_queue_drain_timeout_s"
CANCEL_TIMEOUT_CONF = "llm_queue_cancel_timeout_s"
_POLL_S = 0.02


class AsyncPool(BasePool):  # type: ignore[misc]  # celery is untyped
    """Runs each task's tracer in a greenlet on one event loop in one thread.

    `limit` tasks are in flight at most; `drain_timeout_s` bounds how long `stop` waits for them,
    `cancel_timeout_s` how long it then waits for those it cancelled.
    """

    limit: int
    signal_safe = False
    body_can_be_buffer = True
    drain_timeout_s = 60.0
    cancel_timeout_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.app is not None:
            self.drain_timeout_s = float(self.app.conf.get(DRAIN_TIMEOUT_CONF, self.drain_timeout_s))
            self.cancel_timeout_s = float(self.app.conf.get(CANCEL_TIMEOUT_CONF, self.cancel_timeout_s))
        self._thread = LoopThread()
        self._ids = itertools.count(1)
        # Both belong to the main thread.
        self._tasks: dict[int, PoolTask] = {}
        self._waiting: deque[PoolTask] = deque()
        self._ended: deque[tuple[PoolTask, Ending]] = deque()
        self._hub: Hub | None = None
        self._report_promise = promise(self._report_ended)
        self._total = 0
        self._hurried = False
        self._closing = False
        self._stopping = False

    # What the rest of the worker uses

    @property
    def loop(self) -> Any:
        """The event loop the jobs run on."""
        return self._thread.loop

    def run[T](self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the pool's loop, from any thread. Raises `RuntimeError` when it does not run."""
        return self._thread.run(coro)

    def add_service(self, service: Service) -> None:
        """Run a service beside the jobs; it is cancelled after the last job ended."""
        self._thread.add_service(service)

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    @property
    def loop_lag_s(self) -> float:
        """How late the event loop runs, in seconds."""
        return self._thread.lag_s

    # What Celery calls

    def on_start(self) -> None:
        self._thread.start()

    def register_with_event_loop(self, hub: Hub) -> None:
        self._hub = hub

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> PoolTask:
        task = PoolTask(self, next(self._ids), target, args, kwargs or {}, options)
        if not self._thread.running:
            # A signal's handler stopped the pool while Celery was about to hand this over.
            logger.warning("Task %s came after the pool had stopped", task.task_id)
        elif len(self._tasks) < self.limit:
            self._begin(task)
        else:
            self._waiting.append(task)
        return task

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the task that was accepted under this `pid`; one that has ended is left alone."""
        task = self._tasks.get(pid)
        if task is not None:
            task.cancel(_reason(task))

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self._begin_waiting()

    def shrink(self, n: int = 1) -> None:
        self.limit = max(self.limit - n, 1)

    def hurry(self) -> None:
        """Wait no longer for what runs: cancel it, now if `stop` is under way, or when it comes."""
        self._hurried = True

    def on_close(self) -> None:
        self._closing = True

    def on_stop(self) -> None:
        if not self._closing or self._stopping:
            # Celery's handler of SIGQUIT, on top of whatever the main thread was doing: it may hold the
            # very lock we would wait for. The main thread comes by itself, or is waiting in here.
            self.hurry()
            return
        self._stopping = True
        if not self._thread.running:
            return
        self._drain(self.drain_timeout_s)
        self._cancel_all()

    def on_terminate(self) -> None:
        if self._thread.running:
            self._cancel_all()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info.update(
            {
                "max-concurrency": self.limit,
                "in-flight": len(self._tasks),
                "waiting": len(self._waiting),
                "total": self._total,
                "loop-lag-s": round(self._thread.lag_s, 4),
                "rss-bytes": rss_bytes(),
            }
        )
        return info

    # A job's way, all on the main thread

    def _begin(self, task: PoolTask) -> None:
        self._tasks[task.pid] = task
        self._total += 1
        task.accept()
        self._thread.loop.call_soon_threadsafe(task.start)

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._tasks) < self.limit:
            self._begin(self._waiting.popleft())

    def withdraw(self, task: PoolTask) -> None:
        """Take back a job that still waits for its turn: Celery terminated it."""
        if task in self._waiting:
            self._waiting.remove(task)
            # Celery is told that it was accepted and has ended, but it never runs.
            task.cancel(_reason(task))
            self._begin(task)

    def ended(self, task: PoolTask, ending: Ending) -> None:
        """Called on the event loop when a task's tracer has returned."""
        self._ended.append((task, ending))
        if self._hub is not None:
            self._hub.call_soon(self._report_promise)
        else:
            # A broker without kombu's event loop: the main thread has nothing that could be woken.
            self._report_ended()

    def _report_ended(self) -> None:
        while self._ended:
            task, ending = self._ended.popleft()
            self._tasks.pop(task.pid, None)
            try:
                task.report(ending)
            except (Exception, SystemExit):
                logger.exception("The end of task %s could not be reported", task.task_id)
        self._begin_waiting()

    # Shutdown

    def _drain(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (self._tasks or self._ended) and time.monotonic() < deadline:
            if self._hurried or worker_state.should_terminate not in (None, False):
                return
            self._turn_hub()
            time.sleep(_POLL_S)

    def _cancel_all(self) -> None:
        self._waiting.clear()
        if self._tasks:
            logger.warning("Cancelling %d tasks that still run", len(self._tasks))
        for task in list(self._tasks.values()):
            task.cancel(CancelReason.SHUTDOWN)
        deadline = time.monotonic() + self.cancel_timeout_s
        while (self._tasks or self._ended) and time.monotonic() < deadline:
            self._turn_hub()
            time.sleep(_POLL_S)
        if self._tasks:
            logger.error("%d tasks did not end when cancelled", len(self._tasks))
        self._thread.stop()

    def _turn_hub(self) -> None:
        # Celery's own loop has ended by now: its heartbeats, and the events of what ends, are ours to send.
        self._report_ended()
        if self._hub is None:
            return
        for callback in (self._hub.fire_timers, *self._hub._pop_ready()):
            try:
                callback()
            except Exception:
                logger.exception("A callback failed during shutdown")


def _reason(task: PoolTask) -> CancelReason:
    # Celery terminates what runs when it is told to quit, too; only a revoke is on its list.
    return CancelReason.REVOKED if task.task_id in worker_state.revoked else CancelReason.SHUTDOWN
