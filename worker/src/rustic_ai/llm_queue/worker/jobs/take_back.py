"""Jobs that Redis has lost while a worker runs them: nobody makes, or pays, their calls a second time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rustic_ai.llm_queue.tasks.job import seal_call
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

from .execution import Execution
from .standstill import Standstill

logger = get_logger(__name__)


@dataclass(frozen=True)
class TakeBack:
    """Keeps jobs that Redis has lost with the worker that runs them."""

    ledger: Ledger
    sealer: Sealer
    lease: timedelta
    standstill: Standstill

    async def __call__(self, execution: Execution) -> bool:
        """Whether a job whose lease seems lost is this claim's after all, because Redis lost the job.

        To be asked before work is given up or an answer thrown away. A worker that stood still meanwhile
        keeps no more than an answer that is there: its lease had run out, and what Redis lost with the job
        may be another worker's answer. Raises redis-py's errors.
        """
        if execution.answer is None and self.standstill.since(execution.since_s):
            return False
        record, log = execution.record, execution.attempts
        if record is None:
            return False
        request = record.job.request
        if not request:
            if execution.call is None:
                return False
            # Its text was dropped once it was opened.
            request, _ = seal_call(execution.call, self.sealer, job_id=record.job.id, owner=record.job.owner)
        held = await self.ledger.take_back(
            record, request, lease=self.lease, begun=log.begun, ended=log.records
        )
        if held:
            logger.warning("Redis has lost job %s, which its worker goes on with", execution.job_id)
        return held
