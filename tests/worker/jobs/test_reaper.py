"""What a reaper repairs: jobs of lost workers, jobs past their deadline, wake-ups that are gone."""

from datetime import timedelta
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.processes.wait import async_wait_until
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:dead")


async def lost(kit: JobKit, prompt: str = "why #q", **fields: Any) -> Job:
    """A job whose worker died right after its claim."""
    job = await kit.submit(prompt, **fields)
    await kit.ledger.claim(job.id, worker="dead", token="t", lease=timedelta(0), most_losses=2)
    return job


async def reap(kit: JobKit) -> None:
    """One sweep of a worker whose own renewals are steady."""
    kit.leases._renewed_ms = await kit.ledger.now_ms()
    kit.leases.steady_since_ms = 0
    await kit.reaper._reap()


async def test_a_lost_workers_job_is_run_by_another(kit: JobKit) -> None:
    job = await lost(kit)
    await kit.redis.delete("llm")
    await reap(kit)
    assert await kit.state(job) is JobState.QUEUED
    assert await kit.redis.llen("llm") == 1, "announced"
    outcome = await kit.run(job)
    assert isinstance(outcome, Answered)
    assert [attempt.status for attempt in outcome.account.attempts] == ["lost", "ok"]
    assert kit.reaper.requeued == 1


async def test_nothing_is_reaped_before_the_renewals_are_steady(kit: JobKit) -> None:
    job = await lost(kit)
    await kit.reaper._reap()
    assert await kit.state(job) is JobState.RUNNING


async def test_what_may_not_run_twice_is_concluded(kit: JobKit) -> None:
    job = await lost(kit, on_worker_loss="fail")
    await reap(kit)
    assert await kit.failure(job) == "worker_lost"
    assert kit.ends.concluded_ids == [(job.id, "failed")]


async def test_a_job_that_was_lost_too_often_is_given_up(kit: JobKit) -> None:
    job = await lost(kit)
    for _ in range(2):
        await reap(kit)
        await kit.ledger.claim(job.id, worker="dead", token="t", lease=timedelta(0), most_losses=2)
    await reap(kit)
    assert await kit.run(job) is None
    assert await kit.failure(job) == "worker_lost"
    assert not kit.stub.requests()


async def test_a_waiting_job_past_its_deadline_is_expired(kit: JobKit) -> None:
    job = await kit.submit("why", timeout_ms=1)

    async def expired() -> bool:
        await reap(kit)
        return await kit.state(job) is JobState.EXPIRED

    await async_wait_until(expired, 10)
    await reap(kit)
    assert kit.ends.concluded_ids == [(job.id, "expired")]


async def test_a_job_cancelled_while_it_waited_is_reported_once(kit: JobKit, make_kit: MakeKit) -> None:
    job = await kit.submit("why")
    assert await kit.ledger.cancel(job.id, by="caller", meta="{}") == "cancelled"
    other = make_kit()
    for one in (kit, other):
        await reap(one)
    assert kit.ends.concluded_ids + other.ends.concluded_ids == [(job.id, "cancelled")]


async def test_two_reapers_repair_each_job_once(kit: JobKit, make_kit: MakeKit) -> None:
    for _ in range(20):
        await lost(kit)
    other = make_kit()
    await reap(kit)
    await reap(other)
    assert kit.reaper.requeued + other.reaper.requeued == 20


async def test_one_odd_job_keeps_no_other_from_being_repaired(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, job = [await lost(kit, on_worker_loss="fail") for _ in range(2)]
    conclude = kit.settlement.conclude

    async def planted(job_id: str, *args: Any) -> bool:
        if job_id == odd.id:
            raise KeyError("odd")
        return await conclude(job_id, *args)

    monkeypatch.setattr(kit.settlement, "conclude", planted)
    await reap(kit)
    assert await kit.failure(job) == "worker_lost"


async def test_a_record_that_cannot_be_read_is_concluded(kit: JobKit) -> None:
    job = await lost(kit, on_worker_loss="fail")
    await kit.redis.hset(keys.job_key(job.id), "timeout_ms", "x")
    await reap(kit)
    assert await kit.redis.hget(keys.job_key(job.id), "state") == "failed"


async def test_a_lost_wakeup_is_sent_again(kit: JobKit, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await kit.submit("why #q")
    await kit.redis.delete("llm")
    await kit.redis.zadd(keys.queued_key("llm", 0), {job.id: 1})
    await kit.reaper._announce_lost_wakeups()
    assert await kit.redis.llen("llm") == 1
