"""Random steps of jobs with budgets, against the real functions: what is spent is what was booked.

    cd tests && python -m faults.shows.budget_steps [--steps 1000000] [--seed 16]

After each hundred steps: a budget holds the sum of what live jobs hold of it, has spent what their ends
booked (lost calls at their hold), to the nanodollar, and never more than there is. In the end it holds
nothing. Starts a server of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, TTL, a_job

_LEASE = timedelta(minutes=10)
_META = json.dumps({"status": "SUCCESS"})
_CAPS = {"small": 5_000, "large": 400_000, "endless": 10**12}
_MOST_JOBS = 40
_PICO_IN_NANO = 1_000
_CHECK_EVERY, _CHECK_ALL_EVERY = 100, 20_000
#: Some hundred steps each, and a job lives for fewer.
_LIVE_PERIODS = 20


@dataclass
class _Steps:
    redis: Redis
    dice: random.Random
    ledger: Ledger = field(init=False)
    #: What each live job asks of which budgets.
    jobs: dict[str, list[BudgetAsk]] = field(default_factory=dict)
    #: The epoch of each that runs.
    running: dict[str, int] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    #: Periods follow one another, so that small budgets do not stay spent.
    period: int = 0

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.redis, result_ttl=TTL)

    async def step(self) -> None:
        if len(self.jobs) < _MOST_JOBS and self.dice.random() < 0.5:
            await self._submit()
        await self._take_up()
        if self.dice.random() < 0.01:
            self.period += 1
        if self.running and self.dice.random() < 0.35:
            await self._end(self.dice.choice(list(self.running)))
        waiting = [job_id for job_id in self.jobs if job_id not in self.running]
        if waiting and self.dice.random() < 0.05:
            job_id = self.dice.choice(waiting)
            await self.ledger.cancel(job_id, by="caller", meta=_META)
            await self.ledger.limits.give_up(job_id)
            del self.jobs[job_id]
            self.seen["cancelled"] += 1

    async def _submit(self) -> None:
        job = a_job(timeout_ms=3_600_000)
        names = self.dice.sample(sorted(_CAPS), self.dice.randint(1, len(_CAPS)))
        hold = self.dice.choice([1, 7, 100, 999, 2_500])
        self.jobs[job.id] = [self._ask(name, hold) for name in sorted(names)]
        await self.ledger.submit(job)

    def _ask(self, name: str, hold: int) -> BudgetAsk:
        return BudgetAsk(f"{name}:x:{self.period}", unit="usd", hold=hold, cap=_CAPS[name], ends_ms=2**41)

    async def _take_up(self) -> None:
        announced = [str(one) for one in await self.redis.zrange("llmq:queued:llm:0", 0, -1)]
        if not announced:
            return
        job_id = self.dice.choice(announced)
        token = uuid.uuid4().hex
        claim = await self.ledger.claim(job_id, worker="w", token=token, lease=_LEASE, most_losses=10**6)
        assert claim.verdict == "granted"
        asks = [self._ask(ask.id.partition(":")[0], ask.hold) for ask in self.jobs[job_id]]
        self.jobs[job_id] = asks
        admission = await self.ledger.limits.admit(job_id, claim.epoch, asks, begun=0, ended=())
        self.seen[admission.verdict] += 1
        if admission.verdict == "refused":
            await self.ledger.finish(job_id, claim.epoch, JobState.FAILED, _META, attempts=())
            del self.jobs[job_id]
        elif admission.verdict == "granted":
            self.running[job_id] = claim.epoch

    async def _end(self, job_id: str) -> None:
        asks, epoch = self.jobs[job_id], self.running.pop(job_id)
        how = self.dice.choice(["finish"] * 6 + ["hand back", "lost", "lose"])
        self.seen[how] += 1
        if how == "finish":
            took = self.dice.randint(0, asks[0].hold)
            pico_usd = took * _PICO_IN_NANO - (self.dice.randint(0, 999) if took else 0)
            charge = Charge(OWNER, "gpt-4", pico_usd, 1, 1)
            await self.ledger.finish(job_id, epoch, JobState.ANSWERED, _META, attempts=(), charge=charge)
            del self.jobs[job_id]
            self._spend(asks, took)
            return
        if how == "lose":
            await self.redis.zadd("llmq:leases", {job_id: 1})
            renewed_ms = (await self.ledger.renew({}, lease=_LEASE)).now_ms
            await self.ledger.reap(renewed_ms=renewed_ms, within=_LEASE)
        else:
            await self.ledger.hand_back(job_id, epoch, begun=0, ended=(), call_under_way=how == "lost")
        if how != "hand back":
            self._spend(asks, asks[0].hold)

    def _spend(self, asks: list[BudgetAsk], took: int) -> None:
        self.spent.update({ask.id: took for ask in asks})

    async def check(self) -> None:
        """Of the latest periods, which all that live belong to."""
        periods = range(max(self.period - _LIVE_PERIODS, 0), self.period + 1)
        await self._check(
            [f"llmq:held:{job_id}" for job_id in self.jobs],
            [f"{name}:x:{period}" for name in _CAPS for period in periods],
        )

    async def check_all(self) -> None:
        """Of all that the server has."""
        found = [str(key) async for key in self.redis.scan_iter("llmq:budget:*", count=1_000)]
        await self._check(
            [str(key) async for key in self.redis.scan_iter("llmq:held:*", count=1_000)],
            [key.removeprefix("llmq:budget:") for key in found],
        )

    async def _check(self, holding: list[str], budgets: list[str]) -> None:
        held: Counter[str] = Counter()
        async with self.redis.pipeline(transaction=False) as pipe:
            for key in holding:
                pipe.hgetall(key)
            for fields in await pipe.execute():
                held.update({name[2:]: int(value) for name, value in fields.items() if name.startswith("b:")})
            for budget in budgets:
                pipe.hmget(f"llmq:budget:{budget}", "spent", "held", "limit")
            amounts = await pipe.execute()
        for budget, found in zip(budgets, amounts, strict=True):
            spent, holds, limit = (int(value or 0) for value in found)
            assert holds == held[budget], f"{budget} holds {holds}, its jobs {held[budget]}"
            assert spent == self.spent[budget], f"{budget} has spent {spent}, its jobs {self.spent[budget]}"
            assert spent + holds <= limit, f"{budget}: {spent} spent and {holds} held of {limit}"

    async def end(self) -> None:
        for job_id in list(self.jobs):
            if job_id in self.running:
                epoch = self.running[job_id]
                await self.ledger.finish(job_id, epoch, JobState.ANSWERED, _META, attempts=())
            else:
                await self.ledger.cancel(job_id, by="caller", meta=_META)
                await self.ledger.limits.give_up(job_id)
        self.jobs.clear()
        self.running.clear()
        # A job whose room came while others ended is queued, and holds.
        await self.check_all()
        async for key in self.redis.scan_iter("llmq:budget:*", count=1_000):
            assert await self.redis.hget(key, "held") == "0", key


async def run_steps(url: str, *, steps: int, seed: int) -> Counter[str]:
    """Take the steps on an emptied server; returns how often each thing happened. Raises AssertionError."""
    redis: Redis = Redis.from_url(url, decode_responses=True)
    try:
        await redis.flushdb()
        life = _Steps(redis, random.Random(seed))
        for number in range(1, steps + 1):
            await life.step()
            if number % _CHECK_EVERY == 0:
                await life.check()
            if number % _CHECK_ALL_EVERY == 0:
                await life.check_all()
        await life.end()
        return life.seen
    finally:
        await redis.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    began = time.monotonic()
    with ValkeyServer() as server:
        seen = asyncio.run(run_steps(server.url, steps=options.steps, seed=options.seed))
    told = ", ".join(f"{name} {count:,}" for name, count in seen.most_common())
    print(f"{options.steps:,} steps in {time.monotonic() - began:.0f} s: {told}")
    print("spent is what was booked, to the nanodollar; no budget held or spent more than it has")


if __name__ == "__main__":
    main()
