from __future__ import annotations

import sys

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.ledger.cancel import cancel_job
from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict, Ledger
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..job_id import JOB_ID
from ..output import json_option, out, print_json
from ..redis_session import on_redis

_SAYS = {
    "cancelled": "cancelled while it waited",
    "cancelling": "its worker was told to stop it",
    "ended": "had ended before",
    "missing": "is not known (any more)",
}


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=JOB_ID)
@json_option
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs, waiting or running. Exit code 1 when one of them had ended or is not known."""

    async def work(redis: Redis, settings: QueueSettings) -> dict[str, CancelVerdict]:
        ledger, sealer = Ledger(redis, result_ttl=settings.result_ttl), settings.sealer()
        return {job_id: await cancel_job(ledger, sealer, job_id, by="operator") for job_id in job_ids}

    verdicts = on_redis(work, QueueSettings())
    if as_json:
        print_json(verdicts)
    else:
        for job_id, verdict in verdicts.items():
            out.print(f"{job_id} {_SAYS.get(verdict, verdict)}")
    if any(verdict not in ("cancelled", "cancelling") for verdict in verdicts.values()):
        sys.exit(ExitCode.FAILED)
