from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from redis.asyncio import Redis

from ..tasks.keys import CANCEL_CHANNEL
from ..tasks.ledger import Ledger
from ..tasks.redis_client import OUTAGE_ERRORS
from .held_job import HeldJob, StopReason

logger = logging.getLogger(__name__)

_RECONNECT_PAUSE_S = 0.5


class Leases:
    """The jobs this process holds, kept alive by one renewal a beat for all of them."""

    def __init__(self, ledger: Ledger, *, lease: timedelta, beat: timedelta) -> None:
        self._ledger = ledger
        self._lease, self._beat_s = lease, beat.total_seconds()
        self._held: dict[str, HeldJob] = {}
        self.lost = 0
        #: Loop time since when Redis has answered without a pause; None while it does not.
        self.healthy_since: float | None = None

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def holding(self, job: HeldJob) -> Iterator[None]:
        """Renew the job's lease for as long as the context lasts."""
        self._held[job.job_id] = job
        try:
            yield
        finally:
            if self._held.get(job.job_id) is job:
                del self._held[job.job_id]

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stop the job if it is one of ours."""
        if job := self._held.get(job_id):
            job.stop(reason)

    async def run(self) -> None:
        """Renew until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            try:
                await self._renew()
            except OUTAGE_ERRORS as error:
                self.healthy_since = None
                logger.warning("Leases could not be renewed, Redis is away: %s", type(error).__name__)
            else:
                self._note_health(before, clock())
            await asyncio.sleep(max(self._beat_s - (clock() - before), 0))

    async def _renew(self) -> None:
        held = {job.job_id: job.epoch for job in self._held.values()}
        for job_id, reason in (await self._ledger.renew(held, lease=self._lease)).items():
            job = self._held.get(job_id)
            if job is None or job.epoch != held[job_id]:
                continue
            if reason == "lost":
                self.lost += 1
                logger.warning("Job %s is another worker's now; its call is stopped", job_id)
            job.stop(StopReason(reason))

    def _note_health(self, before: float, after: float) -> None:
        # A renewal that took this long waited for a Redis that froze or was away.
        if after - before > self._lease.total_seconds() / 3:
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = after


class CancelListener:
    """Hears of cancelled jobs at once; without it a running one would go on until the next beat."""

    def __init__(self, redis: Redis, leases: Leases) -> None:
        self._redis, self._leases = redis, leases

    async def run(self) -> None:
        """Listen until cancelled. What is missed while Redis is away comes with the renewals."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CANCEL_CHANNEL)
                    async for message in pubsub.listen():
                        self._leases.stop(str(message["data"]), StopReason.CANCELLED)
            except OUTAGE_ERRORS as error:
                logger.debug("Not listening for cancels: %s", type(error).__name__)
            await asyncio.sleep(_RECONNECT_PAUSE_S)
