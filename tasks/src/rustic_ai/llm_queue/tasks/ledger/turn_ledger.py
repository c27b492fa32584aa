from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from redis.asyncio import Redis

from ..policy.fair_share import FairShare
from .functions.library import FunctionLibrary
from .wire import milliseconds

#: A waiting job that is in no list and no backlog for so long was lost.
_PATIENCE = timedelta(seconds=5)


class TurnLedger:
    """Whose job is next. Steps that claim or end a job keep the turns; this is for the rest.

    Every method raises redis-py's `ConnectionError` or `TimeoutError` once the client's retries are
    used up, and may be sent twice.
    """

    def __init__(self, redis: Redis) -> None:
        self._library = FunctionLibrary(redis)

    async def wakeups_of_others(self, queue: str, running: Collection[str], *, most: int) -> list[str]:
        """Wake-ups of waiting jobs of organisations that are not among `running`, one for each at the most.

        Celery's messages, as they lie in the queue's lists, where they stay.
        """
        found = await self._library.call("wakeups_of_others", [], [queue, most, *running])
        return [str(one) for one in found]

    async def share(
        self, queue: str, policy: FairShare, *, patience: timedelta = _PATIENCE
    ) -> tuple[int, int]:
        """Sort in some of what has arrived, fill up the windows, and lift jobs that have waited long.

        Returns how many were lifted to a higher priority, and how many have still to be sorted in.
        """
        fields = [word for pair in policy.fields().items() for word in pair]
        args = [queue, milliseconds(policy.ageing), milliseconds(patience), *fields]
        lifted, unsorted = await self._library.call("share", [], args)
        return int(lifted), int(unsorted)
