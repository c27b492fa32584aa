from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol

import uvloop

from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .inline_executor import PromptExecutor

logger = get_logger(__name__)

_LAG_SAMPLE_S = 0.5
_SERVICE_PAUSE_S = 1.0
_JOIN_S = 5.0


class Service(Protocol):
    """Something that runs beside the jobs for as long as the worker lives."""

    def run(self) -> Awaitable[None]:
        """Run until cancelled."""
        ...


class LoopThread:
    """One uvloop event loop in one daemon thread, with the services that live on it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.loop.set_default_executor(PromptExecutor(thread_name_prefix="llm-queue-executor"))
        self.loop.set_exception_handler(_report)
        # A wedged job must not keep the process alive past its shutdown.
        self._thread = threading.Thread(target=self._serve, name="llm-queue-loop", daemon=True)
        self._services: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._lag_s = 0.0
        self._sample_due = 0.0

    def start(self) -> None:
        """Start the thread; to be called once."""
        self._sample_due = time.monotonic() + _LAG_SAMPLE_S
        self.loop.call_soon(self._sample_lag)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    @property
    def lag_s(self) -> float:
        """How late the loop ran its last timer, or how long it has been blocked now, in seconds."""
        return max(self._lag_s, time.monotonic() - self._sample_due, 0.0)

    def run[T](self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, from any thread.

        Raises `RuntimeError` when the loop does not run.
        """
        if not self.running:
            coro.close()
            raise RuntimeError("the pool's event loop does not run")
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def add_service(self, service: Service) -> None:
        """Run a service on the loop until `stop`; one that ends or fails is started again after a second."""
        self.loop.call_soon_threadsafe(self._start_service, service)

    def stop(self, timeout_s: float = _JOIN_S) -> None:
        """Cancel the services, then end the loop and its thread. Stopping twice is safe."""
        if self._stopping or not self._thread.is_alive():
            return
        self._stopping = True
        deadline = time.monotonic() + timeout_s
        self.loop.call_soon_threadsafe(self._cancel_services)
        while self._services and time.monotonic() < deadline:
            time.sleep(0.01)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(max(deadline - time.monotonic(), 0.1))
        if self._thread.is_alive():
            logger.error("The event loop is blocked and is left behind")

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # From a task that a job started beside its own: asyncio lets these two through.
                logger.error("A task tried to end the process: %r", error)
            except Exception:
                logger.exception("The event loop failed and goes on")
            if self._stopping or self.loop.is_closed():
                break
        self._close()

    def _close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        try:
            self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_asyncgens(), 1.0))
        except Exception:
            logger.exception("The event loop did not end cleanly")
        self.loop.close()

    def _start_service(self, service: Service) -> None:
        task = self.loop.create_task(self._keep_running(service), name=f"service {type(service).__name__}")
        self._services.add(task)
        task.add_done_callback(self._services.discard)

    async def _keep_running(self, service: Service) -> None:
        name = type(service).__name__
        while not self._stopping:
            try:
                await service.run()
                logger.error("%s ended by itself and starts again", name)
            except (Exception, SystemExit, KeyboardInterrupt):
                logger.exception("%s failed and starts again", name)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._stopping or (task is not None and task.cancelling()):
                    raise
                logger.exception("%s was cancelled from within and starts again", name)
            await asyncio.sleep(_SERVICE_PAUSE_S)

    def _cancel_services(self) -> None:
        for task in list(self._services):
            task.cancel()

    def _sample_lag(self) -> None:
        now = time.monotonic()
        self._lag_s = max(now - self._sample_due, 0.0)
        self._sample_due = now + _LAG_SAMPLE_S
        self.loop.call_later(_LAG_SAMPLE_S, self._sample_lag)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what nobody awaits, but for a name that could not be resolved.

    uvloop goes on resolving a name for a connection that was given up in time: the error was reported as a
    timeout already.
    """
    if not isinstance(context.get("exception"), socket.gaierror):
        loop.default_exception_handler(context)
