from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from itertools import chain
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.cached_answer import CachedAnswer
from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.reuse import CachePolicy, CacheScope
from rustic_ai.llm_queue.tasks.reuse_name import scope_name

from ..jobs.reuse_port import ReuseTicket
from .counters import ReuseCounters

logger = logging.getLogger(__name__)

#: An answer that other jobs wait for is kept at least this long, so that a worker lost while it answers
#: them costs no second call.
KEPT_FOR_FOLLOWERS = timedelta(seconds=60)
#: Longer than any answer is kept.
LISTED_FOR = timedelta(days=31)
_REDIS_FAILS: tuple[type[Exception], ...] = (*OUTAGE_ERRORS, RedisError)


class AnswerCache:
    """Answers kept for equal calls, in a Redis that may evict them: an entry that is gone is a miss.

    A Redis that is away or full is a miss, too, and nothing is kept: the cache never makes a job fail.
    """

    def __init__(self, redis: Redis, sealer: Sealer, policy: CachePolicy, counters: ReuseCounters) -> None:
        self._redis, self._sealer, self._policy, self._counters = redis, sealer, policy, counters

    async def get(self, ticket: ReuseTicket, scope: CacheScope, owner: Owner) -> CachedAnswer | None:
        """The answer kept under the ticket's name, None where there is none that opens.

        The ticket takes along the generation seen, so that `put` need not ask for it.
        """
        name = ticket.name
        try:
            kept, *generations = await self._texts(keys.cache_key(name), *_generation_keys(owner))
        except _REDIS_FAILS as error:
            logger.warning("No answer is looked for in the cache: %s", type(error).__name__)
            return None
        ticket.generation = _generation(generations)
        generation, _, sealed = (kept or "").partition("|")
        if not sealed or generation != ticket.generation:
            return None
        try:
            return CachedAnswer.open(sealed, self._sealer, name=name, scope=scope, owner=owner)
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
        sealed = CachedAnswer.of(answered).seal(self._sealer, name=ticket.name, scope=scope, owner=owner)
        if len(sealed) > self._policy.max_bytes * 4 // 3 + 512:
            return False
        try:
            if ticket.generation is None:
                ticket.generation = _generation(await self._texts(*_generation_keys(owner)))
            await self._put(ticket.name, f"{ticket.generation}|{sealed}", _used_key(scope, owner), ttl)
        except _REDIS_FAILS as error:
            logger.warning("An answer is not kept in the cache: %s", type(error).__name__)
            return False
        return True

    async def _put(self, name: str, entry: str, used_key: str, ttl: timedelta) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(keys.cache_key(name), entry, px=max(ttl, timedelta(milliseconds=1)))
        pipe.zadd(used_key, {name: time.time()})
        pipe.pexpire(used_key, LISTED_FOR)
        pipe.zcard(used_key)
        *_, known = await pipe.execute()
        if known == 1:
            await self._list_scope(used_key)
        if known > self._policy.max_entries:
            await self._drop_oldest(used_key, known - self._policy.max_entries)

    async def _list_scope(self, used_key: str) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(keys.CACHE_SCOPES, {used_key: time.time()})
        pipe.pexpire(keys.CACHE_SCOPES, LISTED_FOR)
        await pipe.execute()

    async def _drop_oldest(self, used_key: str, number: int) -> None:
        oldest = await self._redis.zpopmin(used_key, number)
        names = cast("list[str]", list(chain.from_iterable(oldest))[::2])
        await self._redis.delete(*(keys.cache_key(one) for one in names))

    async def _texts(self, *names: str) -> list[str | None]:
        return cast("list[str | None]", await self._redis.mget(*names))

    async def used(self, name: str, scope: CacheScope, owner: Owner) -> None:
        """Note that the entry was asked for; those that were not the longest go first."""
        try:
            await self._redis.zadd(_used_key(scope, owner), {name: time.time()})
        except _REDIS_FAILS as error:
            logger.debug("A use of the cache is not noted: %s", type(error).__name__)

    async def _forget(self, name: str) -> None:
        try:
            await self._redis.delete(keys.cache_key(name))
        except _REDIS_FAILS as error:
            logger.debug("An unreadable entry stays until its end: %s", type(error).__name__)


def _generation_keys(owner: Owner) -> tuple[str, str, str]:
    return (
        keys.CACHE_GENERATION_PREFIX,
        keys.CACHE_GENERATION_PREFIX + _hashed(scope_name("org", owner)),
        keys.CACHE_GENERATION_PREFIX + _hashed(scope_name("guild", owner)),
    )


def generation_key(org: str | None, guild: str | None) -> str:
    """The counter that, raised, makes every answer of that organisation or guild, or all, a miss."""
    if org is None:
        return keys.CACHE_GENERATION_PREFIX
    owner = Owner(org=org, guild=guild or "-", agent="-")
    return keys.CACHE_GENERATION_PREFIX + _hashed(scope_name("guild" if guild else "org", owner))


def _generation(counters: list[str | None]) -> str:
    return ".".join(one or "0" for one in counters)


def _used_key(scope: CacheScope, owner: Owner) -> str:
    return keys.CACHE_USED_PREFIX + _hashed(scope_name(scope, owner))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
