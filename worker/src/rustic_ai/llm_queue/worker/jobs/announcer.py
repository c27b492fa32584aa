from __future__ import annotations

import logging

from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger

logger = logging.getLogger(__name__)


class Announcer:
    """Sends the wake-ups of jobs that are back on the queue."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def announce(self, job_id: str) -> None:
        """Wake a worker up for the job. One that fails is found by the reaper."""
        try:
            record = await self._ledger.record(job_id)
            if record is not None:
                await self._ledger.announce(record.job)
        except (RedisError, OSError, ContractViolation) as error:
            logger.warning("Job %s could not be announced: %s", job_id, type(error).__name__)
