from __future__ import annotations

import gc
import logging
from concurrent.futures import Future
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker.control import control_command
from celery.worker.control import revoke as celery_revoke

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.job import check_job_id
from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.tasks.settings import SettingsError

from ..pool.health import HealthFile
from ..pool.open_files import allow_open_files
from ..pool.shutdown import Shutdown
from ..provider.litellm_api.setup import load_litellm
from ..settings import WorkerSettings
from .bulk_pop import RESERVED_PLACES
from .start import check_start, refuse
from .unrun_ends import UnrunEnds
from .worker_events import WorkerEvents

logger = logging.getLogger(__name__)

#: Objects made, less those freed, before the youngest are looked through; Python's own is 2,000.
_GC_AFTER = 20_000


def add_steps(app: Celery, settings: WorkerSettings) -> None:
    """Make a worker of `app` start what its jobs share, once its pool's event loop runs."""

    class RuntimeStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
        requires = ("celery.worker.components:Pool",)

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            self._settings = check_start(worker, settings)

        def start(self, worker: Any) -> None:
            allow_open_files(worker.concurrency)
            # Here, not at import: LiteLLM takes seconds, which `celery inspect` need not wait for.
            load_litellm(self._settings)
            from ..runtime import Runtime

            accounts = app.tasks[TASK_NAME].accounts
            try:
                events = WorkerEvents(app, worker.hostname)
                runtime = Runtime(
                    self._settings,
                    worker=worker.hostname,
                    observers=[accounts, UnrunEnds(worker)],
                    send_event=events.send,
                )
            except SettingsError as error:
                refuse(str(error), ExitCode.SETTINGS)
            app.tasks[TASK_NAME].runtime = runtime
            setattr(worker, RESERVED_PLACES, runtime.reserved_places)
            for service in runtime.services(worker.pool):
                worker.pool.add_service(service)
            self._hook = RevokeHook(worker.pool, runtime)
            signals.task_revoked.connect(self._hook.task_revoked)
            worker.llm_queue_revoke = self._hook
            # Celery's signals hold their receivers weakly.
            self._shutdown = Shutdown(worker.pool, hard_stop=settings.hard_stop)
            self._shutdown.watch()
            if settings.health_file is not None:
                self._health = HealthFile(settings.health_file)
                self._health.watch(worker.pool)
            # What is loaded now stays: half a million objects that no collection need look at, be
            # it in the middle of a thousand calls or, for seconds, on the way out.
            gc.freeze()
            # Between two jobs' ends little dies in cycles: looking for it every 2,000 objects is a
            # twentieth of a busy worker's time.
            gc.set_threshold(_GC_AFTER, 20, 20)

        def stop(self, worker: Any) -> None:
            signals.task_revoked.disconnect(self._hook.task_revoked)

    app.steps["worker"].add(RuntimeStep)


class RevokeHook:
    """Makes Celery's revoke, and so Flower's Terminate button, end the job in the ledger too."""

    def __init__(self, pool: Any, runtime: Any) -> None:
        self._pool, self._runtime = pool, runtime

    def task_revoked(self, request: Any = None, **_: Any) -> None:
        """Celery dropped a message of a revoked task, or stopped it."""
        self.cancel(request.id, waiting_only=False)

    def cancel(self, job_id: str, *, waiting_only: bool) -> None:
        """Cancel the job, from any thread."""
        future: Future[None] = self._pool.run(
            self._runtime.cancel(job_id, by="operator", waiting_only=waiting_only)
        )
        future.add_done_callback(_log_failure)


def _log_failure(future: Future[None]) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, ContractViolation):
        logger.error("A revoked job could not be cancelled: %s", type(error).__name__)


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
    """Celery's `revoke`, which by itself reaches only jobs that a worker has taken."""
    reply = celery_revoke(state, task_id, terminate=terminate, signal=signal, **kwargs)
    hook: RevokeHook | None = getattr(state.consumer.controller, "llm_queue_revoke", None)
    for one in task_id if isinstance(task_id, list | tuple | set) else [task_id]:
        try:
            job_id = check_job_id(one)
        except ValueError:
            continue
        if hook is not None:
            hook.cancel(job_id, waiting_only=not terminate)
    return reply
