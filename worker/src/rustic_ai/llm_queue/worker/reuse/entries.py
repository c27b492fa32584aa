from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import batched, chain
from typing import Literal, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.reuse.names import scope_name
from rustic_ai.llm_queue.tasks.reuse.options import CacheScope

#: What can be cleared by itself: an organisation, a guild, or what the guilds of an organisation share.
_Part = Literal["org", "guild", "shared"]
#: Longer than any entry is kept.
LISTED_FOR = timedelta(days=31)
REDIS_FAILS: tuple[type[Exception], ...] = (*OUTAGE_ERRORS, RedisError)
#: Entries of one command: Redis does nothing else meanwhile.
_AT_ONCE = 256


class CacheEntries:
    """The cache in Redis: sealed texts by name, with the generation in which they were written.

    Every method raises `REDIS_FAILS`.
    """

    def __init__(self, redis: Redis, most: int) -> None:
        """`most` entries of a scope; beyond them those go that were not asked for the longest."""
        self._redis, self._most = redis, most

    async def get(self, names: Sequence[str], scope: CacheScope, owner: Owner) -> tuple[str, dict[str, str]]:
        """The generation of the owner's scope, and the entries of it that are there, by name."""
        groups = [list(some) for some in batched(_entry_keys(names), _AT_ONCE, strict=False)]
        generations, *kept = await self._texts([*_generation_keys(scope, owner)], *groups)
        if None in generations:
            # Forgotten, or evicted: nobody can say which of the entries are of before the last clearing.
            return await self.generation(scope, owner), {}
        generation, found = _generation(generations), {}
        for name, entry in zip(names, chain.from_iterable(kept), strict=True):
            written, _, sealed = (entry or "").partition("|")
            if sealed and written == generation:
                found[name] = sealed
        return generation, found

    async def generation(self, scope: CacheScope, owner: Owner) -> str:
        """What changes when an operator clears the owner's part of the cache, and when it is forgotten."""
        counters = _generation_keys(scope, owner)
        pipe = self._redis.pipeline(transaction=False)
        for counter in counters:
            pipe.set(counter, time.time_ns(), px=LISTED_FOR, nx=True)
        pipe.mget(*counters)
        *_, generations = await pipe.execute()
        return _generation(cast("list[str | None]", generations))

    async def put(
        self, entries: Mapping[str, str], generation: str, scope: CacheScope, owner: Owner, ttl: timedelta
    ) -> None:
        """Write entries by name."""
        used_key = _used_key(scope, owner)
        for some in batched(entries.items(), _AT_ONCE, strict=False):
            pipe = self._redis.pipeline(transaction=False)
            for name, sealed in some:
                entry = f"{generation}|{sealed}"
                pipe.set(keys.cache_key(name), entry, px=max(ttl, timedelta(milliseconds=1)))
            now_s = time.time()
            pipe.zadd(used_key, {name: now_s for name, _ in some})
            pipe.pexpire(used_key, LISTED_FOR)
            for counter in _generation_keys(scope, owner):
                pipe.pexpire(counter, LISTED_FOR)
            pipe.zcard(used_key)
            *_, known = await pipe.execute()
            if known == len(some):
                await self._list_scope(used_key)
            if known > self._most:
                await self._drop_oldest(used_key, known - self._most)

    async def note_use(self, names: Sequence[str], scope: CacheScope, owner: Owner, now_s: float) -> None:
        """Note that entries were asked for; those that were not the longest go first."""
        await self._redis.zadd(_used_key(scope, owner), dict.fromkeys(names, now_s))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete entries."""
        await self._redis.delete(*_entry_keys(names))

    async def _list_scope(self, used_key: str) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(keys.CACHE_SCOPES, {used_key: time.time()})
        pipe.pexpire(keys.CACHE_SCOPES, LISTED_FOR)
        await pipe.execute()

    async def _drop_oldest(self, used_key: str, number: int) -> None:
        oldest = await self._redis.zpopmin(used_key, number)
        names = cast("list[str]", list(chain.from_iterable(oldest))[::2])
        await self._redis.delete(*_entry_keys(names))

    async def _texts(self, *groups: list[str]) -> list[list[str | None]]:
        if len(groups) == 2 and len(groups[1]) == 1:
            # The most common question, in one command.
            values = cast("list[str | None]", await self._redis.mget(*groups[1], *groups[0]))
            return [values[1:], values[:1]]
        pipe = self._redis.pipeline(transaction=False)
        for group in groups:
            pipe.mget(*group)
        return cast("list[list[str | None]]", await pipe.execute())


def cleared_by(org: str | None, guild: str | None) -> list[str]:
    """The counters that, changed, make every answer of that organisation or guild, or all, a miss.

    What guilds of an organisation share goes with each of them: it may be of any.
    """
    if org is None:
        return [keys.CACHE_GENERATION_PREFIX]
    owner = Owner(org=org, guild=guild or "-", agent="-")
    if guild is None:
        return [_counter("org", owner)]
    return [_counter("guild", owner), _counter("shared", owner)]


def _entry_keys(names: Sequence[str]) -> list[str]:
    return [keys.cache_key(name) for name in names]


def _generation_keys(scope: CacheScope, owner: Owner) -> tuple[str, str, str]:
    narrow: _Part = "shared" if scope == "org" else "guild"
    return keys.CACHE_GENERATION_PREFIX, _counter("org", owner), _counter(narrow, owner)


def _counter(part: _Part, owner: Owner) -> str:
    scope = scope_name("guild" if part == "guild" else "org", owner)
    return keys.CACHE_GENERATION_PREFIX + _hashed(f"{part} {scope}")


def _generation(counters: list[str | None]) -> str:
    return ".".join(one or "0" for one in counters)


def _used_key(scope: CacheScope, owner: Owner) -> str:
    return keys.CACHE_USED_PREFIX + _hashed(scope_name(scope, owner))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
