from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.redis_client import OUTAGE_ERRORS

from .gate import Claimed, Verdict

logger = logging.getLogger(__name__)

#: The reaper announces a parked job that was not announced for so long.
_FORGOTTEN_AFTER = timedelta(seconds=30)


class GuildLimit:
    """Bounds the calls of one guild that run at once, over all workers: a `JobGate`.

    A job beyond the bound waits: it goes back on the queue, costs no try and takes no place in a
    worker, and is announced when another job of its guild ends. Only its own deadline makes it fail.
    """

    def __init__(self, ledger: Ledger, announce: Callable[[str], Awaitable[None]], most: int) -> None:
        """`announce` wakes a worker up for a job, and does not raise when Redis is away."""
        self._ledger, self._announce, self._most = ledger, announce, most

    async def admit(self, job: Claimed) -> Verdict:
        """Count the job among its guild's running ones, or have it parked."""
        if job.record is None:
            return "admitted"
        verdict = await self._ledger.enter(
            job.job_id, job.epoch, job.record.job.owner, most=self._most, patience=_FORGOTTEN_AFTER
        )
        if verdict == "entered":
            return "admitted"
        logger.debug("Job %s waits for its guild's other calls", job.job_id)
        return "parked"

    async def leave(self, job: Claimed) -> None:
        """Give the job's place to the next of its guild."""
        if job.record is None:
            return
        try:
            freed = await self._ledger.leave(job.job_id, job.record.job.owner, most=self._most)
        except OUTAGE_ERRORS as error:
            # The place counts as free once the job's lease is gone.
            logger.warning("A guild's place could not be given back: %s", type(error).__name__)
            return
        for waiting in freed:
            await self._announce(waiting)
