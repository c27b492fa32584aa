from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.5


class Resubmit:
    """Keeps a job whose caller waits for it, and submits it again should Redis have lost it."""

    def __init__(
        self,
        job: Job,
        *,
        ends_at: float | None,
        reply_channel: str | None,
        caller: Callable[[str], str | None],
        on_lost: Callable[[], None],
        redis: Redis,
        ledger: Ledger,
    ) -> None:
        """
        Args:
            ends_at: the caller's deadline in the time of the running loop.
            reply_channel: where its result is to be sent, if anywhere.
            caller: what the job of this id names as its caller, see `Ledger.submit`.
            on_lost: called when the job is submitted again: Redis will have lost more than this job.
        """
        self._job = job
        self._ends_at, self._reply_channel, self._caller = ends_at, reply_channel, caller
        self._on_lost, self._redis, self._ledger = on_lost, redis, ledger

    async def submit_if_lost(self) -> None:
        """Look for the job's record, for as long as Redis may be away, and write it anew if it is gone."""
        while True:
            try:
                if await self._redis.hget(keys.job_key(self._job.id), "state") is None:
                    await self._submit_again()
            except OUTAGE_ERRORS:
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _submit_again(self) -> None:
        timeout_ms = self._job.timeout_ms
        if self._ends_at is not None:
            left_s = self._ends_at - asyncio.get_running_loop().time()
            timeout_ms = max(1, round(left_s * 1000))
        generation = self._job.generation + 1
        self._job = self._job.model_copy(update={"generation": generation, "timeout_ms": timeout_ms})
        logger.warning("Redis has lost job %s, which is submitted again", self._job.id)
        caller = self._caller(self._job.id)
        await self._ledger.submit(self._job, reply_channel=self._reply_channel, caller=caller)
        self._on_lost()
