from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from rustic_ai.llm_queue.tasks.ledger.ledger import Claim, Ledger
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.redis_client import OUTAGE_ERRORS

from ..jobs.announcer import Announcer
from ..jobs.held_job import HeldJob

logger = logging.getLogger(__name__)

#: A parked job that nobody announced for so long is announced by the reaper.
_PATIENCE = timedelta(seconds=30)


class GuildShare:
    """Bounds the calls of one guild that run at once, over all workers.

    A job beyond the bound waits: it goes back on the queue, costs no try and takes no place in a
    worker, and is announced when one of its guild ends. Only its own deadline makes it fail.
    """

    def __init__(self, ledger: Ledger, announcer: Announcer, most: int) -> None:
        self._ledger, self._announcer, self._most = ledger, announcer, most

    @asynccontextmanager
    async def place(self, held: HeldJob, claim: Claim) -> AsyncIterator[bool]:
        """Whether the held job may run now; if not, it is not held any more."""
        if claim.record is None:
            yield True
            return
        owner = claim.record.job.owner
        verdict = await self._ledger.enter(
            held.job_id, held.epoch, owner, most=self._most, patience=_PATIENCE
        )
        if verdict != "entered":
            logger.debug("Job %s waits for its guild's other calls", held.job_id)
            yield False
            return
        try:
            yield True
        finally:
            await self._leave(held.job_id, owner, self._most)

    async def _leave(self, job_id: str, owner: Owner, most: int) -> None:
        try:
            freed = await self._ledger.leave(job_id, owner, most=most)
        except OUTAGE_ERRORS as error:
            # Its place is found to be free once its lease is gone.
            logger.warning("A guild's place could not be given back: %s", type(error).__name__)
            return
        for waiting in freed:
            await self._announcer.announce(waiting)
