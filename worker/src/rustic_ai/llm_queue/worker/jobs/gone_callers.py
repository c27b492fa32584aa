from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from rustic_ai.llm_queue.tasks.connection.redis_errors import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.callers import Callers
from rustic_ai.llm_queue.tasks.ledger.cancel import cancel_job
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

logger = logging.getLogger(__name__)

BEAT = timedelta(seconds=5)
#: Longer than a process takes to notice that its connection is dead and to make another one.
ABSENT_FOR = timedelta(seconds=18)


class GoneCallers:
    """Cancels the jobs of processes that died while they waited for the answers.

    Runs in every worker, and does no harm in parallel. Jobs that were submitted without waiting have no
    caller, and are left alone.
    """

    def __init__(
        self,
        callers: Callers,
        ledger: Ledger,
        sealer: Sealer,
        *,
        beat: timedelta = BEAT,
        absent_for: timedelta = ABSENT_FOR,
    ) -> None:
        """Args:
        beat: how often the callers are looked at.
        absent_for: how long a process must have been away to count as gone.
        """
        self._callers, self._ledger, self._sealer = callers, ledger, sealer
        self._beat_s = beat.total_seconds()
        self._absent_for = absent_for

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                for caller in await self._callers.gone(absent_for=self._absent_for):
                    await self._cancel_jobs_of(caller)
                    await self._callers.forget(caller)
            except OUTAGE_ERRORS as error:
                logger.debug("No caller was looked at, Redis is away: %s", type(error).__name__)
            await asyncio.sleep(self._beat_s)

    async def _cancel_jobs_of(self, caller: str) -> None:
        async for job_id in self._callers.jobs_of(caller):
            verdict = await cancel_job(self._ledger, self._sealer, job_id, by="reaper")
            logger.warning("Job %s is cancelled, its caller's process is gone: %s", job_id, verdict)
