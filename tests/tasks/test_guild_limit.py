"""How many calls a guild has under way at once, and what becomes of its further jobs."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.ledger import EnterVerdict, Ledger
from rustic_ai.llm_queue.tasks.owner import Owner

#: Jobs are left in the middle of their lives.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")

LEASE, PATIENCE = timedelta(seconds=15), timedelta(seconds=30)


async def submitted(ledger: Ledger, guild: str = "g", **fields: Any) -> Job:
    job = Job(
        id=str(uuid.uuid4()), owner=Owner(org="o", guild=guild, agent=uuid.uuid4().hex), model="m",
        queue="llm", timeout_ms=60_000, request="plain:{}", fingerprints="plain:1", **fields,
    )  # fmt: skip
    await ledger.submit(job)
    return job


async def claim(ledger: Ledger, job: Job, lease: timedelta = LEASE) -> int:
    claimed = await ledger.claim(job.id, worker="w", token=uuid.uuid4().hex, lease=lease, most_losses=2)
    assert claimed.verdict == "granted"
    return claimed.epoch


async def enter(ledger: Ledger, job: Job, most: int = 2, lease: timedelta = LEASE) -> EnterVerdict:
    epoch = await claim(ledger, job, lease)
    return await ledger.enter(job.id, epoch, job.owner, most=most, patience=PATIENCE)


async def test_jobs_beyond_the_share_are_parked_and_follow_in_order(ledger: Ledger, redis: Redis) -> None:
    jobs = sorted([await submitted(ledger) for _ in range(5)], key=lambda job: job.id)
    for place, job in enumerate(jobs):
        await redis.hset(f"llmq:job:{job.id}", "created_ms", str(1_000_000 + place))
    assert [await enter(ledger, job) for job in jobs] == ["entered", "entered", "parked", "parked", "parked"]
    record = await ledger.record(jobs[2].id)
    assert record is not None
    assert (record.state, record.attempts_begun, record.handbacks) == (JobState.QUEUED, 0, 1)
    assert record.started_ms is None, "it still waits"
    assert await ledger.leave(jobs[0].id, jobs[0].owner, most=2) == [jobs[2].id]
    assert await enter(ledger, jobs[2]) == "entered"
    assert await ledger.leave(jobs[1].id, jobs[1].owner, most=2) == [jobs[3].id]
    assert await ledger.leave(jobs[2].id, jobs[2].owner, most=2) == [jobs[4].id], "a slot for each"


async def test_another_guild_has_a_share_of_its_own(ledger: Ledger) -> None:
    for guild in ("a", "b"):
        assert await enter(ledger, await submitted(ledger, guild), most=1) == "entered"
    assert await enter(ledger, await submitted(ledger, "a"), most=1) == "parked"


async def test_a_parked_job_costs_none_of_its_tries(ledger: Ledger) -> None:
    await enter(ledger, await submitted(ledger), most=1)
    job = await submitted(ledger, on_worker_loss="fail")
    for _ in range(5):
        assert await enter(ledger, job, most=1) == "parked"
    record = await ledger.record(job.id)
    assert record is not None
    assert record.epoch - record.handbacks == 0


async def test_a_parked_job_is_not_announced_as_forgotten_until_it_is_late(
    ledger: Ledger, redis: Redis
) -> None:
    await enter(ledger, await submitted(ledger), most=1)
    job = await submitted(ledger)
    await enter(ledger, job, most=1)
    await redis.delete("llm")
    patience = timedelta(milliseconds=1)
    assert await ledger.unannounced("llm", 0, patience=patience) == []
    await redis.zincrby("llmq:queued:llm:0", -31_000, job.id)
    assert await ledger.unannounced("llm", 0, patience=patience) == [job.id]


async def test_a_slot_whose_worker_died_is_free_again(ledger: Ledger) -> None:
    lost = await submitted(ledger, on_worker_loss="fail")
    assert await enter(ledger, lost, most=1, lease=timedelta(0)) == "entered"
    waiting = await submitted(ledger)
    assert await enter(ledger, waiting, most=1) == "parked"
    renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    assert await ledger.reap(renewed_ms=renewed_ms, within=LEASE) == [("lost", lost.id)]
    assert await ledger.conclude(lost.id, 1, JobState.FAILED, "{}")
    assert await enter(ledger, waiting, most=1) == "entered"


async def test_a_rerun_after_a_loss_has_its_slot_still(ledger: Ledger) -> None:
    job = await submitted(ledger)
    assert await enter(ledger, job, most=1, lease=timedelta(0)) == "entered"
    renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    assert await ledger.reap(renewed_ms=renewed_ms, within=LEASE) == [("requeued", job.id)]
    assert await enter(ledger, job, most=1) == "entered"


async def test_a_cancelled_parked_job_is_passed_over(ledger: Ledger) -> None:
    first, second, third = [await submitted(ledger) for _ in range(3)]
    assert [await enter(ledger, job, most=1) for job in (first, second, third)][1:] == ["parked"] * 2
    assert await ledger.cancel(second.id, by="caller", meta="{}") == "cancelled"
    assert await ledger.leave(first.id, first.owner, most=1) == [third.id]


async def test_a_worker_that_lost_its_lease_parks_nothing(ledger: Ledger) -> None:
    job = await submitted(ledger)
    epoch = await claim(ledger, job)
    assert await ledger.enter(job.id, epoch - 1, job.owner, most=1, patience=PATIENCE) == "stale"


async def test_no_key_stays_for_ever(ledger: Ledger, redis: Redis) -> None:
    for _ in range(3):
        await enter(ledger, await submitted(ledger), most=1)
    names = [key async for key in redis.scan_iter("llmq:*ing:*")] + [
        key async for key in redis.scan_iter("llmq:parked:*")
    ]
    assert len(names) == 2
    assert [await redis.ttl(key) > 0 for key in names] == [True, True]
