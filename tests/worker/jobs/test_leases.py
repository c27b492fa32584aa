"""The leases of one process: renewed in one call, stopped when lost or cancelled, steady or not."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.worker.jobs.execution import Execution, StopReason
from rustic_ai.llm_queue.worker.jobs.leases import CancelListener
from support.processes.wait import async_wait_until
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")

LEASE = timedelta(seconds=15)


async def held(kit: JobKit, lease: timedelta = LEASE, **fields: Any) -> tuple[Job, Execution]:
    """A job that the kit has claimed and holds."""
    job = await kit.submit("why", **fields)
    execution = kit.execution(job)
    claim = await kit.ledger.claim(job.id, worker=kit.name, token=job.id, lease=lease, most_losses=2)
    execution.claimed(claim)
    kit.leases.hold(execution)
    return job, execution


async def until_s(kit: JobKit, job: Job) -> float:
    until_ms = await kit.redis.zscore(keys.LEASES, job.id)
    assert until_ms is not None
    return (until_ms - await kit.ledger.now_ms()) / 1000


async def test_one_renewal_prolongs_all_that_are_held(kit: JobKit) -> None:
    jobs = [(await held(kit, timedelta(seconds=1)))[0] for _ in range(3)]
    await kit.leases._renew()
    assert all([await until_s(kit, job) > 10 for job in jobs])


async def test_what_is_let_go_is_renewed_no_more(kit: JobKit) -> None:
    job, execution = await held(kit, timedelta(seconds=1))
    kit.leases.let_go(execution)
    await kit.leases._renew()
    assert await until_s(kit, job) <= 1
    kit.leases.let_go(execution)


async def test_a_job_that_became_anothers_is_stopped_and_counted(kit: JobKit) -> None:
    job, execution = await held(kit)
    await kit.redis.hset(keys.job_key(job.id), "epoch", "2")
    await kit.leases._renew()
    assert (execution.stop_reason, kit.leases.lost) == (StopReason.LOST, 1)


async def test_a_new_claim_of_this_process_stops_its_earlier_one(kit: JobKit) -> None:
    job, earlier = await held(kit)
    later = kit.execution(job)
    kit.leases.hold(later)
    assert (earlier.stop_reason, later.stop_reason) == (StopReason.LOST, None)
    kit.leases.let_go(earlier)
    assert len(kit.leases) == 1, "the later one is still held"


async def test_a_cancelled_job_is_stopped_with_the_next_renewal(kit: JobKit) -> None:
    job, execution = await held(kit)
    assert await kit.ledger.cancel(job.id, by="caller", meta="{}") == "cancelling"
    await kit.leases._renew()
    assert execution.stop_reason is StopReason.CANCELLED


async def test_a_cancelled_job_is_stopped_at_once_where_the_channel_is_heard(kit: JobKit) -> None:
    job, execution = await held(kit)
    listener = asyncio.create_task(CancelListener(kit.redis, kit.leases, kit.ledger.limits).run())

    async def listening() -> bool:
        return bool((await kit.redis.pubsub_numsub(keys.CANCEL_CHANNEL))[0][1])

    await async_wait_until(listening, 10)
    await kit.ledger.cancel(job.id, by="caller", meta="{}")
    await async_wait_until(lambda: execution.stop_reason is StopReason.CANCELLED, 10)
    listener.cancel()


async def test_renewals_are_steady_only_after_a_whole_lease(make_kit: MakeKit) -> None:
    kit = make_kit(lease="1s", beat="100ms")
    await kit.leases._renew()
    assert kit.leases.steady_ms is None

    async def steady() -> int | None:
        await kit.leases._renew()
        return kit.leases.steady_ms

    await async_wait_until(steady, 10)
    await asyncio.sleep(0.5)  # the fault itself: an interruption, longer than the longest gap
    await kit.leases._renew()
    assert kit.leases.steady_ms is None
