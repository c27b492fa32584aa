"""Jobs that Redis has lost while a worker runs them: nobody makes, or pays, their calls a second time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

from rustic_ai.llm_queue.tasks.ledger.ledger import Claim, Ledger
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from ..settings import WorkerSettings
from .execution import Execution

logger = get_logger(__name__)


async def claim(ledger: Ledger, execution: Execution, settings: WorkerSettings, reserve: timedelta) -> Claim:
    """Claim the job. One that its client has submitted again is left to an earlier holder for a while.

    Args:
        reserve: the longest time in which a worker notices that Redis has lost a job it runs.

    Raises `Stopped`.
    """
    token = uuid4().hex
    while True:
        found = await ledger.claim(
            execution.job_id,
            worker=execution.worker,
            token=token,
            lease=settings.lease,
            most_losses=settings.most_losses,
            reserve=reserve,
        )
        if found.verdict != "reserved":
            return found
        await execution.work(asyncio.sleep(found.reserved_for.total_seconds()))


async def take_back(ledger: Ledger, execution: Execution, lease: timedelta) -> bool:
    """Whether a job whose lease seems lost is this claim's after all, because it was Redis that lost the job.

    To be asked before work is given up or an answer thrown away. Raises redis-py's errors.
    """
    if execution.record is None:
        return False
    log = execution.attempts
    held = await ledger.take_back(execution.record, lease=lease, begun=log.begun, ended=log.records)
    if held:
        logger.warning("Redis has lost job %s, which its worker goes on with", execution.job_id)
    return held
