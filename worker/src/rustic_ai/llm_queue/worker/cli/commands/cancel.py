from __future__ import annotations

import sys

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict, Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Cancelled
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.result import encode_result
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..exit_code import ExitCode
from ..job_id import JOB_ID
from ..output import json_option, out, print_json
from ..redis_session import on_redis

_NOBODY = Owner(org="unknown", guild="unknown", agent="unknown")
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
        return {job_id: await _cancel(redis, settings, job_id) for job_id in job_ids}

    verdicts = on_redis(work, QueueSettings())
    if as_json:
        print_json(verdicts)
    else:
        for job_id, verdict in verdicts.items():
            out.print(f"{job_id} {_SAYS.get(verdict, verdict)}")
    if any(verdict not in ("cancelled", "cancelling") for verdict in verdicts.values()):
        sys.exit(ExitCode.FAILED)


async def _cancel(redis: Redis, settings: QueueSettings, job_id: str) -> CancelVerdict:
    ledger = Ledger(redis, result_ttl=settings.result_ttl)
    try:
        record = await ledger.record(job_id)
        owner = record.job.owner if record else _NOBODY
    except ContractViolation:
        owner = _NOBODY
    outcome = Cancelled(account=Account(), by="operator")
    meta = encode_result(outcome, job_id=job_id, owner=owner, sealer=settings.sealer())
    return await ledger.cancel(job_id, by="operator", meta=meta)
