from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Account, Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.result import StoredResult, decode_result

from .resubmit import Resubmit
from .waiter import Watch

logger = logging.getLogger(__name__)

#: A result that is opened in a thread.
_LARGE = 512 * 1024
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


class Outcomes:
    """Reads how jobs ended: the stored result decides; a published one is believed if it can be current."""

    def __init__(self, redis: Redis, sealer: Sealer, *, redis_timeout_s: float) -> None:
        self._redis, self._sealer, self._redis_timeout_s = redis, sealer, redis_timeout_s

    async def now(self, job_id: str, owner: Owner) -> Outcome | None:
        """The stored outcome, or None. Raises redis-py's errors."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.result_key(job_id))
            pipe.hget(keys.job_key(job_id), "state")
            raw, state = cast("list[str | None]", await pipe.execute())
        # Of a job that waits or runs, a result can only be an old one, written again.
        return None if raw is None or state in _UNFINISHED else await self._open(raw, job_id, owner)

    async def follow(
        self, watch: Watch, job_id: str, owner: Owner, resubmit: Resubmit | None, *, epoch: int = 0
    ) -> Outcome:
        """Wait for the outcome, through any outage of Redis.

        Args:
            epoch: the first claim that could end the job when the wait began. A published result of an
                earlier one is not believed.
        """
        outcome = None
        if not watch.from_the_start:
            outcome = await self._after_subscribing(watch, job_id, owner)
        while outcome is None:
            news = await watch.next()
            if news is not None:
                outcome = await self._heard(news, job_id, owner, epoch)
            elif resubmit is not None:
                await resubmit.submit_if_lost()
        return outcome

    async def _after_subscribing(self, watch: Watch, job_id: str, owner: Owner) -> Outcome | None:
        try:
            async with asyncio.timeout(self._redis_timeout_s):
                await watch.subscribed.wait()
                return await self.now(job_id, owner)
        except OUTAGE_ERRORS:
            # Redis is away. The waiter reads the key again once it is back.
            return None

    async def _heard(self, news: str, job_id: str, owner: Owner, epoch: int) -> Outcome | None:
        try:
            if news != keys.STORED:
                result = await self._decode(news, job_id, owner)
                if result.epoch >= epoch:
                    return result.outcome
        except ContractViolation as violation:
            # Anybody on Redis can publish; only what is stored decides.
            logger.warning("Ignored a message posing as the result of job %s: %s", job_id, violation)
        try:
            return await self.now(job_id, owner)
        except OUTAGE_ERRORS:
            return None

    async def _decode(self, raw: str, job_id: str, owner: Owner) -> StoredResult:
        decode = partial(decode_result, raw, job_id=job_id, owner=owner, sealer=self._sealer)
        # All calls of the process wait for what is done on its loop.
        return await asyncio.to_thread(decode) if len(raw) > _LARGE else decode()

    async def _open(self, raw: str, job_id: str, owner: Owner) -> Outcome:
        try:
            return (await self._decode(raw, job_id, owner)).outcome
        except ContractViolation as violation:
            error = ErrorEnvelope(kind=ErrorKind.INVALID_RECORD, message=f"The stored result: {violation}")
            return Failed(account=Account(), error=error)
