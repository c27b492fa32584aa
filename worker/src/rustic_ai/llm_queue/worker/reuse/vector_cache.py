from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_vector import CachedVector
from rustic_ai.llm_queue.tasks.reuse.options import CachePolicy, CacheScope

from ..pool.inline_executor import in_thread_if
from .counters import ReuseCounters
from .entries import REDIS_FAILS, CacheEntries

logger = logging.getLogger(__name__)

#: Characters of vectors that are opened, or sealed, in a thread.
_LARGE = 512 * 1024


class VectorCache:
    """Vectors kept for equal texts. A Redis that is away or full is a miss, and nothing is kept."""

    def __init__(self, redis: Redis, sealer: Sealer, policy: CachePolicy, counters: ReuseCounters) -> None:
        self._entries = CacheEntries(redis, policy.max_entries)
        self._sealer, self._policy, self._counters = sealer, policy, counters

    async def get(
        self, names: Sequence[str], scope: CacheScope, owner: Owner
    ) -> tuple[str | None, dict[str, CachedVector]]:
        """The cache's generation, None where it cannot be asked, and the vectors there are, by name."""
        try:
            generation, kept = await self._entries.get(list(dict.fromkeys(names)), scope, owner)
        except REDIS_FAILS as error:
            logger.warning("No vector is looked for in the cache: %s", type(error).__name__)
            return None, {}
        found, unreadable = await in_thread_if(
            _are_large(kept.values()), partial(self._opened, kept, scope, owner)
        )
        self._counters.unreadable += len(unreadable)
        await self.forget(unreadable)
        await self._note_use(list(found), scope, owner)
        return generation, found

    async def put(
        self,
        vectors: Mapping[str, CachedVector],
        generation: str | None,
        scope: CacheScope,
        owner: Owner,
        ttl: timedelta,
    ) -> None:
        """Keep the vectors for `ttl`, by name; none that is too large.

        Args:
            generation: the cache's when it was asked: one that was cleared since keeps nothing of it.
        """
        fitting = {name: one for name, one in vectors.items() if len(one.vector) <= self._policy.max_bytes}
        sealed = await in_thread_if(
            _are_large(one.vector for one in fitting.values()), partial(self._sealed, fitting, scope, owner)
        )
        try:
            if generation is None:
                generation = await self._entries.generation(scope, owner)
            await self._entries.put(sealed, generation, scope, owner, ttl)
        except REDIS_FAILS as error:
            logger.warning("Vectors are not kept in the cache: %s", type(error).__name__)

    async def forget(self, names: Sequence[str]) -> None:
        """Delete the vectors of these names."""
        if not names:
            return
        try:
            await self._entries.delete(names)
        except REDIS_FAILS as error:
            logger.debug("Entries of the cache stay until their end: %s", type(error).__name__)

    def _opened(
        self, kept: Mapping[str, str], scope: CacheScope, owner: Owner
    ) -> tuple[dict[str, CachedVector], list[str]]:
        found, unreadable = {}, []
        for name, sealed in kept.items():
            try:
                found[name] = CachedVector.open(sealed, self._sealer, name=name, scope=scope, owner=owner)
            except ContractViolation:
                # A rotated key, or an entry that was tampered with.
                unreadable.append(name)
        return found, unreadable

    def _sealed(self, vectors: Mapping[str, CachedVector], scope: CacheScope, owner: Owner) -> dict[str, str]:
        return {
            name: vector.seal(self._sealer, name=name, scope=scope, owner=owner)
            for name, vector in vectors.items()
        }

    async def _note_use(self, names: Sequence[str], scope: CacheScope, owner: Owner) -> None:
        if not names:
            return
        try:
            await self._entries.note_use(names, scope, owner, time.time())
        except REDIS_FAILS as error:
            logger.debug("A use of the cache is not noted: %s", type(error).__name__)


def _are_large(texts: Iterable[str]) -> bool:
    return sum(map(len, texts)) > _LARGE
