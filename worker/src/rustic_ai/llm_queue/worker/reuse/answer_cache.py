from __future__ import annotations

import logging
import time
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.json_weight import weighs_more
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_answer import CachedAnswer
from rustic_ai.llm_queue.tasks.reuse.options import CachePolicy, CacheScope

from ..jobs.reuse_port import ReuseTicket
from ..jobs.settlement import is_large
from ..pool.inline_executor import in_thread_if
from .counters import ReuseCounters
from .entries import REDIS_FAILS, CacheEntries

logger = logging.getLogger(__name__)

#: An answer that other jobs wait for is kept at least this long, so that a worker lost while it answers
#: them costs no second call.
KEPT_FOR_FOLLOWERS = timedelta(seconds=60)
#: Characters of an entry that is opened in a thread.
_LARGE_ENTRY = 128 * 1024


class AnswerCache:
    """Answers kept for equal calls, in a Redis that may evict them: an entry that is gone is a miss.

    A Redis that is away or full is a miss, too, and nothing is kept: the cache never makes a job fail.
    """

    def __init__(self, redis: Redis, sealer: Sealer, policy: CachePolicy, counters: ReuseCounters) -> None:
        self._entries = CacheEntries(redis, policy.max_entries)
        self._sealer, self._policy, self._counters = sealer, policy, counters

    async def get(self, ticket: ReuseTicket, scope: CacheScope, owner: Owner) -> CachedAnswer | None:
        """The answer kept under the ticket's name, None where there is none that opens.

        The ticket takes along the generation seen, so that `put` need not ask for it.
        """
        name = ticket.name
        try:
            ticket.generation, kept = await self._entries.get([name], scope, owner)
        except REDIS_FAILS as error:
            logger.warning("No answer is looked for in the cache: %s", type(error).__name__)
            return None
        if name not in kept:
            return None
        try:
            read = partial(CachedAnswer.open, kept[name], self._sealer, name=name, scope=scope, owner=owner)
            return await in_thread_if(len(kept[name]) > _LARGE_ENTRY, read)
        except ContractViolation:
            # A rotated key, or an entry that was tampered with.
            self._counters.unreadable += 1
            await self._forget(name)
            return None

    async def put(
        self, ticket: ReuseTicket, answered: Answered, scope: CacheScope, owner: Owner, ttl: timedelta
    ) -> bool:
        """Keep the answer for `ttl`. False where it is too large, or Redis does not take it.

        A cache that was cleared while the call was under way does not keep it.
        """
        if weighs_more(answered.response, self._policy.max_bytes):
            return False
        seal = partial(
            CachedAnswer.of(answered).seal, self._sealer, name=ticket.name, scope=scope, owner=owner
        )
        sealed = await in_thread_if(is_large(answered), seal)
        if len(sealed) > self._policy.max_bytes * 4 // 3 + 512:
            return False
        try:
            if ticket.generation is None:
                ticket.generation = await self._entries.generation(scope, owner)
            await self._entries.put({ticket.name: sealed}, ticket.generation, scope, owner, ttl)
        except REDIS_FAILS as error:
            logger.warning("An answer is not kept in the cache: %s", type(error).__name__)
            return False
        return True

    async def used(self, name: str, scope: CacheScope, owner: Owner) -> None:
        """Note that the entry was asked for; those that were not the longest go first."""
        try:
            await self._entries.note_use([name], scope, owner, time.time())
        except REDIS_FAILS as error:
            logger.debug("A use of the cache is not noted: %s", type(error).__name__)

    async def _forget(self, name: str) -> None:
        try:
            await self._entries.delete([name])
        except REDIS_FAILS as error:
            logger.debug("An unreadable entry stays until its end: %s", type(error).__name__)
