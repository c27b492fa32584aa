"""Calls for embeddings of which some texts' vectors are kept: none may ever get another text's vector.

    cd tests && python -m faults.shows.partial_hits [--cases 100000] [--seed 1]

Each case is a call of a few texts out of a small world of texts, models, lengths and guilds, so that hits,
partial hits and misses are all common. It runs through the workers' own cache, on a real Valkey; the
provider is a function of what it is asked for, and answers some calls with vectors of another length.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
from array import array
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.reuse.options import CacheMode, CachePolicy, CacheScope, ReuseOptions
from rustic_ai.llm_queue.tasks.vectors import pack_vectors, unpack_vectors
from rustic_ai.llm_queue.worker.jobs.execution import Execution
from rustic_ai.llm_queue.worker.jobs.reuse_port import VectorTicket
from rustic_ai.llm_queue.worker.reuse.counters import ReuseCounters
from rustic_ai.llm_queue.worker.reuse.vector_cache import VectorCache
from rustic_ai.llm_queue.worker.reuse.vector_reuse import VectorReuse
from support.servers.valkey import ValkeyServer

_TEXTS = [f"text {at}" for at in range(60)]
_MODES: tuple[CacheMode, ...] = ("default", "default", "default", "no-cache", "no-store", "off")
_SCOPES: tuple[CacheScope, ...] = ("agent", "guild", "org")
#: Of so many calls, one meets a model that has changed its length.
_ODD_EVERY = 200


def true_vector(call: EmbeddingCall, owner: Owner, text: str, dimensions: int) -> array[float]:
    """What the provider answers: another vector for whatever may not be shared."""
    asked = f"{call.model}|{sorted(call.params.items())}|{owner.org}|{text}"
    seed = hashlib.sha256(asked.encode()).digest()
    return array("f", [seed[at % len(seed)] / 256 for at in range(dimensions)])


@dataclass
class World:
    """The cache, and what became of the cases so far."""

    reuse: VectorReuse
    chance: random.Random
    seen: Counter[str] = field(default_factory=Counter)

    async def case(self) -> None:
        """One call. Raises `AssertionError` for a wrong vector."""
        chance = self.chance
        owner = Owner(
            org=chance.choice("ab"), guild=chance.choice("cd"), agent=f"agent-{chance.randrange(3)}"
        )
        call = EmbeddingCall(
            model=chance.choice(["one", "two"]),
            texts=tuple(chance.choices(_TEXTS, k=chance.randint(1, 8))),
            params=chance.choice([{}, {"dimensions": 4}, {"input_type": "query"}]),
            reuse=ReuseOptions(
                cache_ttl_s=600, cache_scope=chance.choice(_SCOPES), cache=chance.choice(_MODES)
            ),
        )
        await self._run(call, owner)

    async def _run(self, call: EmbeddingCall, owner: Owner) -> None:
        dimensions = int(call.params.get("dimensions", 8))
        execution = cast(
            "Execution",
            SimpleNamespace(
                call=call, owner=owner, reused=None, account=Account, attempts=SimpleNamespace(refused=None)
            ),
        )
        outcome = await self.reuse.find(execution, call)
        ticket = execution.reused
        assert isinstance(ticket, VectorTicket)
        odd = self.chance.randrange(_ODD_EVERY) == 0 and "dimensions" not in call.params
        if outcome is None:
            sent = execution.call
            assert isinstance(sent, EmbeddingCall)
            length = dimensions + odd
            response = pack_vectors([true_vector(call, owner, text, length) for text in sent.texts])
            answered = Answered(account=Account(prompt_tokens=9), model=call.model, response=response)
            outcome = await self.reuse.keep(execution, ticket, answered)
            dimensions = length
        self._check(call, owner, ticket, outcome, dimensions)

    def _check(
        self, call: EmbeddingCall, owner: Owner, ticket: VectorTicket, outcome: Any, dimensions: int
    ) -> None:
        found = len(ticket.kept.by_place)
        self.seen["hit" if found == len(call.texts) else "partial" if found else "miss"] += 1
        if isinstance(outcome, Failed):
            self.seen["refused for its length"] += 1
            assert found, "only vectors of two calls can differ in length"
            return
        assert isinstance(outcome, Answered)
        vectors = unpack_vectors(outcome.response, count=len(call.texts))
        if len(vectors[0]) != dimensions:
            # All were kept while the model's vectors had another length.
            assert found == len(call.texts)
            dimensions = len(vectors[0])
        for text, vector in zip(call.texts, vectors, strict=True):
            assert vector == true_vector(call, owner, text, dimensions).tolist(), (call, text)
        assert outcome.account.cached_texts == found


async def run_cases(redis_url: str, cases: int, seed: int) -> Counter[str]:
    """How many cases were hits, partial hits and misses. Raises `AssertionError` for a wrong vector."""
    redis: Redis = Redis.from_url(redis_url, decode_responses=True)
    sealer, counters = Sealer(KeyRing({"k": b"k" * 32})), ReuseCounters()
    cache = VectorCache(redis, sealer, CachePolicy(max_entries=150), counters)
    world = World(VectorReuse(cache, sealer, counters), random.Random(seed))
    try:
        for _ in range(cases):
            await world.case()
    finally:
        await redis.aclose()
    assert not counters.unreadable
    return world.seen


def main() -> None:
    """Print what the cases were."""
    parser = argparse.ArgumentParser(prog="python -m faults.shows.partial_hits", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with ValkeyServer() as valkey:
        seen = asyncio.run(run_cases(valkey.url, options.cases, options.seed))
    told = ", ".join(f"{count:,} {name}" for name, count in seen.most_common())
    print(f"{options.cases:,} calls (seed {options.seed}), no wrong vector: {told}")


if __name__ == "__main__":
    main()
