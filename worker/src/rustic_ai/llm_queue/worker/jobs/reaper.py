from __future__ import annotations

import asyncio
from datetime import timedelta

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.job import PRIORITIES, JobRecord
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger, ReapVerdict
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.policy.fair_share import FairShare
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .announcer import Announcer
from .leases import Leases
from .settlement import Settlement, cancelled, expired, gave_up, worker_lost

logger = get_logger(__name__)

#: A wake-up that was sent this long ago and is not in its list any more was lost.
_PATIENCE = timedelta(seconds=5)
#: A worker that dies may have held a thousand: all of them are to run again at once.
_AT_ONCE = 1_000
#: Of some 400 arrived jobs each; what is left then waits for the next sweep.
_MOST_STEPS = 250


class Reaper:
    """Repairs what died: runs in every worker, and does no harm in parallel.

    A Redis that was away or frozen let every lease run out at once, though their workers live.
    So no lease is reaped until this worker's own renewals have gone through for one whole lease:
    by then the others' have, too. The ledger refuses a reap that comes later than it was meant.
    """

    def __init__(
        self,
        ledger: Ledger,
        settlement: Settlement,
        announcer: Announcer,
        leases: Leases,
        *,
        queue: str,
        every: timedelta,
        fair_share: FairShare,
    ) -> None:
        self._ledger, self._settlement, self._announcer, self._leases = ledger, settlement, announcer, leases
        self._queue, self._fair_share = queue, fair_share
        self._every_s = every.total_seconds()
        self.requeued = 0
        #: Jobs that waited so long that they went up to a higher priority.
        self.lifted = 0

    async def run(self) -> None:
        """Repair until cancelled."""
        while True:
            try:
                await self._reap()
                await self._keep_turns()
                await self._announce_lost_wakeups()
                await self._repair_flights()
            except OUTAGE_ERRORS as error:
                logger.warning("Nothing was reaped, Redis is away: %s", type(error).__name__)
            await asyncio.sleep(self._every_s)

    async def _reap(self) -> None:
        # Without steady renewals only what is past its deadline in the queue is found.
        renewed_ms = self._leases.steady_ms or 0
        found = await self._ledger.reap(renewed_ms=renewed_ms, within=self._leases.longest_gap, most=_AT_ONCE)
        for verdict, job_id in found:
            if verdict == "requeued":
                self.requeued += 1
                logger.warning("Job %s lost its worker and is back on the queue", job_id)
                await self._announcer.announce(job_id)
                continue
            try:
                await self._conclude(verdict, job_id)
            except OUTAGE_ERRORS:
                raise
            except Exception:
                # The next sweep finds it again: one odd job may not keep the others from being repaired.
                logger.exception("Job %s could not be concluded as %s", job_id, verdict)

    async def _conclude(self, verdict: ReapVerdict, job_id: str) -> None:
        try:
            record = await self._ledger.record(job_id)
        except ContractViolation:
            record = None
        outcome = _outcome(verdict, record)
        if verdict == "withdrawn":
            self._settlement.report(job_id, record, outcome)
            return
        epoch = record.epoch if record else await self._ledger.epoch(job_id)
        if await self._settlement.conclude(job_id, epoch, record, outcome):
            logger.warning("Job %s was concluded: %s", job_id, outcome.kind)

    async def _keep_turns(self) -> None:
        # A burst is sorted in at once, in steps that hold up Redis for some milliseconds each.
        for _ in range(_MOST_STEPS):
            lifted, unsorted = await self._ledger.turns.share(self._queue, self._fair_share)
            self.lifted += lifted
            if not unsorted:
                return

    async def _announce_lost_wakeups(self) -> None:
        for priority in PRIORITIES:
            for job_id in await self._ledger.unannounced(self._queue, priority, patience=_PATIENCE):
                logger.warning("The wake-up of job %s was lost and is sent again", job_id)
                await self._announcer.announce(job_id)

    async def _repair_flights(self) -> None:
        for job_id in await self._ledger.flights.repair_flights():
            logger.warning("Job %s waited for an equal call that is gone, and asks anew", job_id)


def _outcome(verdict: ReapVerdict, record: JobRecord | None) -> Outcome:
    match verdict:
        case "expired":
            return expired(record)
        case "withdrawn" if record and gave_up(record, record.ended_ms or 0):
            return expired(record)
        case "cancelled" | "withdrawn":
            return cancelled(record, by=(record.cancel_by if record else None) or "caller")
        case _:
            return worker_lost(record)
