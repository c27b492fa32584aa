from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.keys import CANCEL_CHANNEL
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

from .execution import Execution, StopReason
from .standstill import Standstill
from .take_back import TakeBack

logger = logging.getLogger(__name__)

_RECONNECT_PAUSE_S = 0.5
#: The event loop's timers may end some milliseconds early: beats that make up a lease then count as one.
_TIMER_MS = 50


class Leases:
    """The jobs this process holds, kept alive by one renewal a beat for all of them."""

    def __init__(self, ledger: Ledger, sealer: Sealer, *, lease: timedelta, beat: timedelta) -> None:
        self._ledger = ledger
        self.standstill = Standstill(lease)
        self._take_back = TakeBack(ledger, sealer, lease, self.standstill)
        self._lease, self._beat_s = lease, beat.total_seconds()
        self._held: dict[str, Execution] = {}
        self.lost = 0
        #: Longest time between two renewals that is no interruption. A worker that was interrupted
        #: together with this one, for less, still has its leases, and time to renew them.
        self.longest_gap = beat + lease / 6
        #: The latest renewal, and the first since which none was interrupted, on Redis' clock: it
        #: also shows when this process, or all of the machine, stood still.
        self._renewed_ms: int | None = None
        self.steady_since_ms = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def steady_ms(self) -> int | None:
        """Redis' time of the latest renewal, if renewals have gone through for one whole lease."""
        if self._renewed_ms is None:
            return None
        steady_for_ms = self._renewed_ms - self.steady_since_ms
        return self._renewed_ms if steady_for_ms >= _ms(self._lease) - _TIMER_MS else None

    @property
    def renewed_ms(self) -> int:
        """Redis' time of the latest renewal; 0 before the first."""
        return self._renewed_ms or 0

    def hold(self, execution: Execution) -> None:
        """Renew the job's lease until `let_go`."""
        if earlier := self._held.get(execution.job_id):
            # This worker had it before, lost it, and has claimed it anew.
            self._lose(earlier)
        self._held[execution.job_id] = execution

    def let_go(self, execution: Execution) -> None:
        """Renew the job's lease no more; safe when it is not held."""
        if self._held.get(execution.job_id) is execution:
            del self._held[execution.job_id]

    def orgs(self) -> set[str]:
        """The organisations of which this worker runs jobs."""
        return {one.record.job.owner.org for one in self._held.values() if one.record is not None}

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stop the job if it is one of ours."""
        if execution := self._held.get(job_id):
            execution.stop(reason)

    async def run(self) -> None:
        """Renew until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            try:
                await self._renew()
            except OUTAGE_ERRORS as error:
                logger.warning("Leases could not be renewed, Redis is away: %s", type(error).__name__)
            await asyncio.sleep(max(self._beat_s - (clock() - before), 0))

    async def _renew(self) -> None:
        held = {job_id: execution.epoch for job_id, execution in self._held.items()}
        renewal = await self._ledger.renew(held, lease=self._lease)
        self._note(renewal.now_ms)
        lost = []
        for job_id, reason in renewal.stop.items():
            execution = self._held.get(job_id)
            if execution is None or execution.epoch != held[job_id]:
                continue
            if reason == "lost":
                lost.append(execution)
            else:
                execution.stop(StopReason(reason))
        await asyncio.gather(*map(self._take_back_or_lose, lost))

    async def _take_back_or_lose(self, execution: Execution) -> None:
        if not await self._take_back(execution):
            self._lose(execution)

    def _lose(self, execution: Execution) -> None:
        self.lost += 1
        logger.warning("Job %s is no longer this claim's; its call is stopped", execution.job_id)
        execution.stop(StopReason.LOST)

    def _note(self, now_ms: int) -> None:
        if self._renewed_ms is None or now_ms - self._renewed_ms > _ms(self.longest_gap):
            self.steady_since_ms = now_ms
        self._renewed_ms = now_ms


class CancelListener:
    """Receives cancels at once; without it a running one would go on until the next beat."""

    def __init__(self, redis: Redis, leases: Leases, limits: LimitLedger) -> None:
        self._redis, self._leases, self._limits = redis, leases, limits

    async def run(self) -> None:
        """Listen until cancelled. What is missed while Redis is away comes with the renewals."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CANCEL_CHANNEL)
                    async for message in pubsub.listen():
                        job_id = str(message["data"])
                        self._leases.stop(job_id, StopReason.CANCELLED)
                        # One that waited for a limit has left its place there to be given back.
                        await self._limits.give_up(job_id)
            except OUTAGE_ERRORS as error:
                logger.debug("Not listening for cancels: %s", type(error).__name__)
            await asyncio.sleep(_RECONNECT_PAUSE_S)


def _ms(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)
