from __future__ import annotations

from celery import Celery

from .job import Job
from .names import TASK_NAME


def announce(app: Celery, job: Job) -> None:
    """Send the message that wakes a worker up for `job`. Blocks; sending it twice does no harm.

    Raises kombu's `OperationalError` when the broker is away: the job is safe in the ledger, and
    a worker announces it again.
    """
    app.send_task(
        TASK_NAME,
        args=(job.id,),
        task_id=job.id,
        queue=job.queue,
        priority=job.priority,
        ignore_result=True,
        # What Flower and the logs show in place of the arguments.
        argsrepr=f"model={job.model} org={job.owner.org} guild={job.owner.guild} "
        f"agent={job.owner.agent} ~tokens={job.estimated_tokens}",
        kwargsrepr="",
        retry=True,
        retry_policy={"max_retries": 2, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.5},
    )
