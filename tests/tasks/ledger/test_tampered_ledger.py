"""A record that somebody has tampered with ends, and keeps no other job from its end."""

import uuid
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.owner import Owner

#: What was tampered with may stay until the reaper finds it.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:*")

LEASE = timedelta(seconds=15)
GARBAGE = ["", "x", "-1", "1e999", "nan", "inf", "9" * 400, "0x10", "1.5", "[1]"]
NUMBERS = ["deadline_ms", "created_ms", "epoch", "handbacks", "attempts_begun", "stream_ttl_s", "timeout_ms"]


async def submitted(ledger: Ledger) -> Job:
    job = Job(
        id=str(uuid.uuid4()), owner=Owner(org="o", guild="g", agent="a"), model="m", queue="llm",
        timeout_ms=60_000, stream=True, stream_ttl_s=5.0, request="plain:{}", fingerprints="plain:1",
    )  # fmt: skip
    await ledger.submit(job)
    return job


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", NUMBERS)
async def test_a_claim_of_a_number_that_is_none_has_a_verdict_and_an_end(
    ledger: Ledger, redis: Redis, name: str, garbage: str
) -> None:
    job = await submitted(ledger)
    await redis.hset(keys.job_key(job.id), name, garbage)
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    if claim.verdict == "granted":
        assert await ledger.finish(job.id, claim.epoch, JobState.FAILED, "{}", attempts=()) == "done"
    else:
        assert claim.verdict in ("expired", "exhausted")
    assert await redis.zscore(keys.LEASES, job.id) is None or claim.verdict != "granted"


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_record_of_nothing_but_garbage_ends(ledger: Ledger, redis: Redis, garbage: str) -> None:
    job = await submitted(ledger)
    await redis.hset(keys.job_key(job.id), mapping=dict.fromkeys(NUMBERS, garbage))
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    assert claim.verdict == "expired"
    assert await ledger.epoch(job.id) == claim.epoch == 0
    assert await ledger.conclude(job.id, claim.epoch, JobState.EXPIRED, "{}")


@pytest.mark.parametrize("garbage", [*GARBAGE, None])
async def test_a_tampered_record_keeps_no_other_job_from_being_reaped(
    ledger: Ledger, redis: Redis, garbage: str | None
) -> None:
    tampered, honest = await submitted(ledger), await submitted(ledger)
    for job in (tampered, honest):
        claim = await ledger.claim(job.id, worker="w", token=job.id, lease=timedelta(0), most_losses=2)
        assert claim.verdict == "granted"
    if garbage is None:
        await redis.delete(keys.job_key(tampered.id))
        await redis.lpush(keys.job_key(tampered.id), "not a hash")
    else:
        await redis.hset(keys.job_key(tampered.id), mapping=dict.fromkeys(NUMBERS, garbage))
    renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    found = await ledger.reap(renewed_ms=renewed_ms, within=LEASE)
    assert ("requeued", honest.id) in found


async def test_a_record_names_no_channel_but_one_for_results(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    await redis.hset(keys.job_key(job.id), "reply_channel", "/0.celery.pidbox")
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    async with redis.pubsub() as pubsub:
        await pubsub.psubscribe("*celery.pidbox")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
        await ledger.finish(job.id, claim.epoch, JobState.FAILED, "{}", attempts=())
        heard = await pubsub.get_message(timeout=5)
    assert heard["channel"] == keys.result_key("/0.celery.pidbox")
