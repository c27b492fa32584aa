from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore

from ..tasks.errors import JobFailed
from ..tasks.names import TASK_NAME
from ..tasks.outcome import Answered, Cancelled, Failed, Outcome
from .bridge import wait_for
from .running_job import mark_revoked

if TYPE_CHECKING:
    from .runtime import Runtime


class RunJob(Task):  # type: ignore[misc]  # celery is untyped
    """The one Celery task: carries the job whose id it is given to its end.

    Our own settling has stored the result before this returns; what it returns or raises is for
    Celery's events and logs, so it holds no text of the job's.
    """

    name = TASK_NAME
    ignore_result = True
    throws = (JobFailed,)
    #: Set by the worker once its pool runs.
    runtime: Runtime

    def run(self, job_id: str) -> dict[str, Any]:
        outcome = wait_for(self.runtime.run_job(job_id))
        match outcome:
            case None:
                # Another worker's, or handed back: for Celery this delivery never was.
                raise Ignore
            case Answered():
                return celery_view(outcome)
            case Failed(error=error):
                raise JobFailed(error.kind.value)
            case Cancelled():
                mark_revoked()
                raise Ignore
            case _:
                raise JobFailed(outcome.kind)


def celery_view(outcome: Outcome) -> dict[str, Any]:
    """What Celery's events, and so Flower, see of an answer."""
    account = outcome.account
    return {
        "cost_usd": account.cost_usd,
        "prompt_tokens": account.prompt_tokens,
        "completion_tokens": account.completion_tokens,
        "attempts": len(account.attempts),
        "queue_wait_s": round(account.queue_wait_s, 3),
        "run_time_s": round(account.run_time_s, 3),
    }
