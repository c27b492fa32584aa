from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.turn_ledger import TurnLedger
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .leases import Leases

logger = get_logger(__name__)

#: A tenth of a second on average is what a call waits that finds no other place. Each look costs Redis some
#: tens of microseconds.
_LOOK_EVERY_S = 0.2


class ReservedPlaces:
    """The places that this worker keeps for organisations of which it runs nothing.

    While it has no others left, it takes nothing from the queue's lists, but looks whose jobs wait there.
    """

    def __init__(self, turns: TurnLedger, leases: Leases, *, queue: str, part: float) -> None:
        """
        Args:
            part: of the worker's places; one stays for everybody.
        """
        self._turns, self._leases, self._queue, self._part = turns, leases, queue, part
        self._free: Callable[[], int] = lambda: 0
        self._places: Callable[[], int] = lambda: 0
        self._deliver: Callable[[Sequence[str]], None] = lambda _: None

    def serve(
        self,
        free: Callable[[], int],
        places: Callable[[], int],
        deliver: Callable[[Sequence[str]], None],
    ) -> None:
        """Connect it to the consumer: what it has free, of how many, and how it is given wake-ups."""
        self._free, self._places, self._deliver = free, places, deliver

    def room(self) -> int:
        """Places that anybody's jobs may take now."""
        return self._free() - self._kept()

    async def run(self) -> None:
        """Fill the places until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            free = self._free()
            if not 0 < free <= self._kept():
                continue
            try:
                found = await self._turns.wakeups_of_others(self._queue, self._leases.orgs(), most=free)
            except OUTAGE_ERRORS as error:
                logger.warning("Reserved places stay empty, Redis is away: %s", type(error).__name__)
                continue
            if found:
                self._deliver(found)

    def _kept(self) -> int:
        places = self._places()
        return min(math.ceil(places * self._part), max(places - 1, 0))
