from __future__ import annotations

import asyncio
import logging

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger

logger = logging.getLogger(__name__)

#: Jobs that another worker has parked are found this late, should that worker die.
_LONGEST_SLEEP_S = 0.25
_IDLE_SLEEP_S = 1.0
_SHORTEST_SLEEP_S = 0.005
_REPAIR_EVERY_S = 30.0


class Ticker:
    """Starts waiting jobs when their time has come: runs in every worker, and does no harm in parallel.

    Room that comes when a call ends is given in that very step; this is for room that comes with time.
    """

    def __init__(self, ledger: LimitLedger) -> None:
        self._ledger = ledger
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once when the next time comes: a job has been parked."""
        self._woken.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        clock = asyncio.get_running_loop().time
        repaired_s = clock()
        while True:
            sleep_s = _IDLE_SLEEP_S
            try:
                after = await self._ledger.tick()
                if after is not None:
                    sleep_s = min(max(after.total_seconds(), _SHORTEST_SLEEP_S), _LONGEST_SLEEP_S)
                if clock() - repaired_s >= _REPAIR_EVERY_S:
                    repaired_s = clock()
                    await self._repair()
            except OUTAGE_ERRORS as error:
                logger.warning("No waiting job was started, Redis is away: %s", type(error).__name__)
            await self._sleep(sleep_s)

    async def _repair(self) -> None:
        if found := await self._ledger.repair_limits():
            logger.warning("%s places of limits were held by jobs that are gone, and are free again", found)

    async def _sleep(self, seconds: float) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
