from __future__ import annotations

import asyncio
import math
from datetime import timedelta


class Standstill:
    """Notices that this process stood still for longer than a lease: frozen, or its machine suspended.

    Its leases ran out meanwhile, so that others have had its jobs, and may have ended them. An outage of
    Redis is no standstill: there the process lives, and nobody else can have had them.
    """

    def __init__(self, lease: timedelta) -> None:
        self._lease_s = lease.total_seconds()
        # In the loop's time; None before it runs.
        self._seen_s: float | None = None
        self._ended_s = -math.inf

    async def run(self) -> None:
        """Watch until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            if self._is_one(clock()):
                self._ended_s = clock()
            self._seen_s = clock()
            await asyncio.sleep(self._lease_s / 10)

    def since(self, moment_s: float) -> bool:
        """Whether there was one since then, in the loop's time; also before `run` has come to notice it."""
        return self._ended_s > moment_s or self._is_one(asyncio.get_running_loop().time())

    def _is_one(self, now_s: float) -> bool:
        return self._seen_s is not None and now_s - self._seen_s > self._lease_s
