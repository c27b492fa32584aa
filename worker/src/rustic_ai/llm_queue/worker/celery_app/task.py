from __future__ import annotations

import logging
from collections import UserDict
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore

from rustic_ai.llm_queue.tasks.errors import JobFailed
from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.tasks.outcome import Answered, Cancelled, Failed

from ..pool.bridge import wait_for
from ..pool.pool_task import mark_revoked
from ..telemetry.job_accounts import JobAccounts, account_view

if TYPE_CHECKING:
    from ..runtime import Runtime

logger = logging.getLogger(__name__)


class RunJob(Task):  # type: ignore[misc]  # celery is untyped
    """The one Celery task: carries the job whose id it is given to its end.

    Our own settling has stored the result before this returns; what it returns or raises is for
    Celery's events and logs, so it holds no text of the job's.
    """

    name = TASK_NAME
    Request = "rustic_ai.llm_queue.worker.celery_app.wakeup_request:WakeupRequest"
    ignore_result = True
    throws = (JobFailed,)
    #: Set by the worker once its pool runs.
    runtime: Runtime

    def __init__(self) -> None:
        #: What ended jobs took, for the events that report their end.
        self.accounts = JobAccounts()

    def run(self, job_id: str) -> UserDict[str, Any]:
        try:
            outcome = wait_for(self.runtime.run_job(job_id))
        except Exception as fault:
            # Its text may quote the job, and Celery would log it and send it out in an event.
            logger.exception("Job %s could not be settled and is left to its lease", job_id)
            raise JobFailed(f"worker_fault ({type(fault).__name__})") from None
        match outcome:
            case None:
                # Another worker's, or handed back: for Celery this delivery never was.
                raise Ignore
            case Answered():
                # Celery walks through a dict to show it, and asks anything else for its repr.
                return UserDict(account_view(outcome))
            case Failed(error=envelope):
                raise JobFailed(envelope.kind.value)
            case Cancelled():
                mark_revoked()
                raise Ignore
            case _:
                raise JobFailed(outcome.kind)

    #: Celery's own would first mark its request, and so double it: 1.5 kB for as long as the job runs.
    __call__ = run
