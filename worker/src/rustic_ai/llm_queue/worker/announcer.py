from __future__ import annotations

import asyncio
import logging

from celery import Celery
from kombu.exceptions import OperationalError

from ..tasks.announce import announce
from ..tasks.contract import ContractViolation
from ..tasks.ledger import Ledger

logger = logging.getLogger(__name__)


class Announcer:
    """Sends the wake-ups of jobs that are back on the queue."""

    def __init__(self, app: Celery, ledger: Ledger) -> None:
        self._app, self._ledger = app, ledger

    async def announce(self, job_id: str) -> None:
        """Wake a worker up for the job. One that fails is found by the reaper."""
        try:
            record = await self._ledger.record(job_id)
            if record is not None:
                # Publishing blocks, and nothing may block the pool's loop.
                await asyncio.to_thread(announce, self._app, record.job)
        except (OperationalError, OSError, ContractViolation) as error:
            logger.warning("Job %s could not be announced: %s", job_id, type(error).__name__)
