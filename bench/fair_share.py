"""What turns cost Redis, and how fair they are, by the ledger's own functions.

    python -m bench.fair_share [--jobs 100000]

Costs are CPU seconds of the server, so that a busy machine does not show. Workers are this process' hands:
they take wake-ups, claim and finish; no provider is called.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job
from support.servers.valkey import ValkeyServer
from support.workers.turns_kit import Hands

_AT_ONCE = 64
_GUILDS, _SIZES = 50, (100, 1_000, 10_000, 100_000)


async def _cpu_s(redis: Redis) -> float:
    info = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _submit(hands: Hands, number: int, guilds: int = 1) -> None:
    for first in range(0, number, _AT_ONCE):
        batch = range(first, min(first + _AT_ONCE, number))
        await asyncio.gather(*(hands.submit("batch", f"g{at % guilds}") for at in batch))


async def unsaturated_us(redis: Redis, jobs: int) -> float:
    """CPU of the server for a job that is submitted, taken and finished with no other in the queue."""
    hands = Hands(redis)
    before_s = await _cpu_s(redis)
    for _ in range(jobs):
        job = await hands.submit("a")
        assert await hands.take() == job
        await hands.finish(job)
    return (await _cpu_s(redis) - before_s) / jobs * 1e6


async def saturated(redis: Redis, jobs: int, guilds: int) -> dict[str, float]:
    """A backlog of one organisation, and single calls of another in the middle of it."""
    hands = Hands(redis)
    before_s, before_bytes = await _cpu_s(redis), int((await redis.info("memory"))["used_memory"])
    await _submit(hands, jobs, guilds)
    submit_s = await _cpu_s(redis)
    held_bytes = int((await redis.info("memory"))["used_memory"]) - before_bytes
    await hands.share()
    sorted_s = await _cpu_s(redis)
    overtaken = []
    for at in range(jobs):
        call = await hands.submit("single") if at % 20 == 0 else None
        for place in range(jobs):
            job = await hands.take()
            if job is not None:
                await hands.finish(job)
            if job is None or call is None or job == call:
                overtaken += [place] if call else []
                break
    run_s = await _cpu_s(redis)
    taken = len(hands.taken)
    return {
        "submit_us": (submit_s - before_s) / jobs * 1e6,
        "sort_us": (sorted_s - submit_s) / jobs * 1e6,
        "claim_and_finish_us": (run_s - sorted_s) / taken * 1e6,
        "bytes_a_waiting_job": held_bytes / jobs,
        "most_jobs_before_a_single_call": max(overtaken),
    }


async def jain(redis: Redis, jobs: int) -> float:
    """Jain's index of the tokens of organisations that are all backlogged, each job of one of the sizes.

    Each organisation's jobs are larger or smaller by a bias of its own: fair are tokens, and not jobs.
    """
    hands, dice = Hands(redis), random.Random(7)
    orgs = [f"org{number}" for number in range(_GUILDS)]
    waiting: Counter[str] = Counter()
    used: Counter[str] = Counter()

    async def fill(org: str) -> None:
        while waiting[org] < 40:
            bias = [1 + int(org[3:]) % 5, 2, 1, 1]
            await hands.submit(org, tokens=dice.choices(_SIZES, bias)[0])
            waiting[org] += 1

    for org in orgs:
        await fill(org)
    await hands.share()
    for _ in range(jobs):
        job: Job | None = await hands.take()
        assert job is not None
        org = job.owner.org
        await hands.finish(job, (job.estimated_tokens, 0))
        used[org] += job.estimated_tokens
        waiting[org] -= 1
        await fill(org)
    shares = [used[org] for org in orgs]
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


async def main(jobs: int) -> None:
    with ValkeyServer() as server:
        async with Redis.from_url(server.url, decode_responses=True, max_connections=_AT_ONCE) as redis:
            print(f"unsaturated: {await unsaturated_us(redis, min(jobs, 5_000)):.0f} µs of Redis a job")
            for guilds in (1, 1_000):
                await redis.flushall()
                figures = await saturated(redis, jobs, guilds)
                shown = ", ".join(f"{name} {value:.0f}" for name, value in figures.items())
                print(f"{jobs} jobs over {guilds} guilds: {shown}", flush=True)
            await redis.flushall()
            print(f"Jain's index of {_GUILDS} organisations: {await jain(redis, min(jobs, 10_000)):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    asyncio.run(main(parser.parse_args().jobs))
