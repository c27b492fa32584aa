from __future__ import annotations

import asyncio
import logging
from typing import cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Account, Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.result import decode_result
from rustic_ai.llm_queue.tasks.seal import Sealer

from .resubmit import Resubmit
from .waiter import Watch

logger = logging.getLogger(__name__)


class Outcomes:
    """Reads how jobs ended: what is stored decides, what is published only says that it is there."""

    def __init__(self, redis: Redis, sealer: Sealer, *, redis_timeout_s: float) -> None:
        self._redis, self._sealer, self._redis_timeout_s = redis, sealer, redis_timeout_s

    async def now(self, job_id: str, owner: Owner) -> Outcome | None:
        """The stored outcome, or None. Raises redis-py's errors."""
        raw = cast("str | None", await self._redis.get(keys.result_key(job_id)))
        return None if raw is None else self._open(raw, job_id, owner)

    async def follow(self, watch: Watch, job_id: str, owner: Owner, resubmit: Resubmit | None) -> Outcome:
        """Wait for the outcome, through any outage of Redis."""
        outcome = None
        if not watch.from_the_start:
            outcome = await self._after_subscribing(watch, job_id, owner)
        while outcome is None:
            news = await watch.next()
            if news is not None:
                outcome = await self._heard(news, job_id, owner)
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

    async def _heard(self, news: str, job_id: str, owner: Owner) -> Outcome | None:
        try:
            return decode_result(news, job_id=job_id, owner=owner, sealer=self._sealer)
        except ContractViolation as violation:
            # Anybody on Redis can publish; only what is stored decides.
            logger.warning("Ignored a message posing as the result of job %s: %s", job_id, violation)
        try:
            return await self.now(job_id, owner)
        except OUTAGE_ERRORS:
            return None

    def _open(self, raw: str, job_id: str, owner: Owner) -> Outcome:
        try:
            return decode_result(raw, job_id=job_id, owner=owner, sealer=self._sealer)
        except ContractViolation as violation:
            error = ErrorEnvelope(kind=ErrorKind.INVALID_RECORD, message=f"The stored result: {violation}")
            return Failed(account=Account(), error=error)
