"""Two limits that are both full, and jobs that need both: how late these are, on the real ledger.

    cd tests && python -m faults.shows.limit_order [--jobs 800] [--places 4] [--seed 1]

Jobs come in all at once; every tenth needs both limits, the others one of them, in turn. How long each runs
is made up, and so is the clock, so that a run has one outcome. Prints by how many later jobs those that need
both were overtaken; exits with 1 when that is more than twice the places of a limit, or when a job is left
behind. Redis is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import statistics
import sys
import uuid
from datetime import timedelta
from typing import cast

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import a_job

#: Jobs that need both limits are one of so many.
BOTH_EVERY = 10
_LEASE = timedelta(minutes=5)
_META = json.dumps({"status": "SUCCESS"})


class Order:
    """Jobs at two limits, worked off in a time that is made up."""

    def __init__(self, redis: Redis, *, jobs: int, places: int, seed: int) -> None:
        self._redis, self._ledger = redis, Ledger(redis, result_ttl=timedelta(minutes=5))
        self._count, self._chance = jobs, random.Random(seed)
        guild, model = (LimitAsk(f"{name}:x", most_running=places) for name in ("guild", "model"))
        self._kinds = (guild,), (model,), (guild, model)
        self._jobs: list[Job] = []
        self._numbers: dict[str, int] = {}
        #: When each that runs ends, and the order in which jobs got through.
        self._ends: list[tuple[float, int]] = []
        self.passed: list[int] = []

    async def run(self) -> list[int]:
        """By how many later jobs each that needs both was overtaken."""
        for number in range(self._count):
            job = a_job(timeout_ms=3_600_000)
            self._jobs.append(job)
            self._numbers[job.id] = number
            await self._ledger.submit(job)
            await self._redis.hset(f"llmq:job:{job.id}", "created_ms", str(1_000_000 + number))
        await self._redis.delete("llm")
        for number in range(self._count):
            await self._admit(number, 0.0)
        while self._ends:
            now, number = heapq.heappop(self._ends)
            await self._finish(number)
            for woken in await self._announced():
                await self._admit(woken, now)
        places = {number: at for at, number in enumerate(self.passed)}
        both = [number for number in places if self._needs(number) == self._kinds[2]]
        return [sum(later > number for later in self.passed[: places[number]]) for number in both]

    def _needs(self, number: int) -> tuple[LimitAsk, ...]:
        return self._kinds[2] if number % BOTH_EVERY == 0 else self._kinds[number % 2]

    async def _admit(self, number: int, now: float) -> None:
        job = self._jobs[number]
        claim = await self._ledger.claim(
            job.id, worker="w", token=uuid.uuid4().hex, lease=_LEASE, most_losses=2
        )
        asks = self._needs(number)
        verdict = await self._ledger.limits.admit(job.id, claim.epoch, asks, begun=0, ended=())
        if verdict.verdict == "granted":
            self.passed.append(number)
            heapq.heappush(self._ends, (now + self._chance.uniform(0.5, 1.5), number))

    async def _finish(self, number: int) -> None:
        job = self._jobs[number]
        record = await self._ledger.record(job.id)
        assert record is not None
        await self._ledger.finish(job.id, record.epoch, JobState.ANSWERED, _META, attempts=())

    async def _announced(self) -> list[int]:
        messages = cast("list[str]", await self._redis.lrange("llm", 0, -1))
        await self._redis.delete("llm")
        return [self._numbers[json.loads(one)["headers"]["id"]] for one in reversed(messages)]


async def _show(url: str, *, jobs: int, places: int, seed: int) -> bool:
    async with Redis.from_url(url, decode_responses=True) as redis:
        order = Order(redis, jobs=jobs, places=places, seed=seed)
        late = await order.run()
    mean = statistics.fmean(late)
    print(
        f"{jobs} jobs, two limits of {places}: {len(order.passed)} got through; the {len(late)} that needed "
        f"both were overtaken by {mean:.1f} later ones in the mean, {max(late)} at worst"
    )
    return len(order.passed) == jobs and max(late) <= 2 * places


def main() -> int:
    """Run it and print what came of it; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=800)
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with ValkeyServer() as server:
        kept = asyncio.run(_show(server.url, jobs=given.jobs, places=given.places, seed=given.seed))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
