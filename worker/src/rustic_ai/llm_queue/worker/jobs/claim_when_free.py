from __future__ import annotations

import asyncio
from uuid import uuid4

from rustic_ai.llm_queue.tasks.ledger.ledger import Claim, Ledger

from ..settings import WorkerSettings
from .execution import Execution
from .leases import Leases


async def claim_when_free(
    ledger: Ledger, execution: Execution, settings: WorkerSettings, leases: Leases
) -> Claim:
    """Claim the job. One that its client has submitted again is left to an earlier holder for a while.

    So long that the holder's renewals, if it lives, must have found out that Redis has lost the job. Raises
    `Stopped`.
    """
    token = uuid4().hex
    while True:
        found = await ledger.claim(
            execution.job_id,
            worker=execution.worker,
            token=token,
            lease=settings.lease,
            most_losses=settings.most_losses,
            reserve=leases.longest_gap,
            steady_since_ms=leases.steady_since_ms,
            renewed_ms=leases.renewed_ms,
        )
        if found.verdict != "reserved":
            return found
        await execution.work(asyncio.sleep(found.reserved_for.total_seconds()))
