"""Every transition of the ledger's table, on a real server and its clock."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Claim, Ledger
from support.processes.wait import async_wait_until
from support.workers.engine_kit import TTL, a_job

#: Most transitions leave a job in the middle of its life.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:*")

LEASE = timedelta(seconds=15)
NO_LEASE = timedelta(0)
META = json.dumps({"status": "SUCCESS"})


async def claim(
    ledger: Ledger, job: Job, *, token: str = "t1", lease: timedelta = LEASE, most_losses: int = 2
) -> Claim:
    return await ledger.claim(job.id, worker="w1", token=token, lease=lease, most_losses=most_losses)


async def submitted(ledger: Ledger, **changes: Any) -> Job:
    job = a_job(**changes)
    assert await ledger.submit(job) == ("created", job.id)
    return job


async def reap(ledger: Ledger) -> list[tuple[str, str]]:
    """What a worker whose own renewals go through finds."""
    renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    return list(await ledger.reap(renewed_ms=renewed_ms, within=LEASE))


async def state(ledger: Ledger, job: Job) -> JobState:
    record = await ledger.record(job.id)
    assert record is not None
    return record.state


async def assert_nothing_left(redis: Redis) -> None:
    """What is left of ended jobs runs out by itself."""
    async for key in redis.scan_iter("llmq:*"):
        assert await redis.ttl(key) > 0, f"{key} stays for ever"


async def test_a_job_goes_from_submit_to_answer(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    assert await state(ledger, job) is JobState.QUEUED

    granted = await claim(ledger, job)
    assert (granted.verdict, granted.epoch) == ("granted", 1)
    assert granted.record is not None
    assert granted.record.job == job
    assert granted.record.attempts_begun == 1

    listener = redis.pubsub(ignore_subscribe_messages=True)
    await listener.subscribe(keys.result_key(job.id))
    ended = (AttemptRecord(number=1, epoch=1, model="gpt-4", status="ok"),)
    assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=ended) == "done"

    record = await ledger.record(job.id)
    assert record is not None
    assert (record.state, record.attempts) == (JobState.ANSWERED, ended)
    assert record.job.request == "", "an answered job keeps no prompt"
    assert await redis.get(keys.result_key(job.id)) == META

    async def published() -> bool:
        message = await listener.get_message()
        return message is not None and message["data"] == META

    await async_wait_until(published, 5, "the result to be published")
    await listener.aclose()
    await assert_nothing_left(redis)


async def test_the_same_submit_sent_twice_is_one_job(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job)
    assert await ledger.submit(job) == ("exists", job.id)
    assert await state(ledger, job) is JobState.RUNNING, "sending again must not queue it again"


async def test_another_request_under_the_same_id_is_a_conflict(ledger: Ledger) -> None:
    job = await submitted(ledger)
    other = job.model_copy(update={"fingerprints": "plain:2"})
    assert await ledger.submit(other) == ("conflict", job.id)


async def test_an_idempotency_key_stands_for_one_job(ledger: Ledger) -> None:
    first, again, other = a_job(), a_job(), a_job(fingerprints="plain:2")
    key = keys.idempotency_key("owner", "key")
    assert await ledger.submit(first, idempotency_key=key) == ("created", first.id)
    assert await ledger.submit(again, idempotency_key=key) == ("exists", first.id)
    assert await ledger.submit(other, idempotency_key=key) == ("conflict", first.id)
    assert await ledger.record(again.id) is None


async def test_an_idempotency_key_keeps_its_answer_and_is_free_again_without_one(
    ledger: Ledger, redis: Redis
) -> None:
    key = keys.idempotency_key("owner", "key")
    first, second, third = a_job(), a_job(), a_job()
    await ledger.submit(first, idempotency_key=key)
    assert await ledger.cancel(first.id, by="caller", meta=META) == "cancelled"
    assert await ledger.submit(second, idempotency_key=key) == ("created", second.id)
    await claim(ledger, second)
    await ledger.finish(second.id, 1, JobState.ANSWERED, META, attempts=())
    assert await ledger.submit(third, idempotency_key=key) == ("exists", second.id)
    for kept in (keys.job_key(second.id), keys.result_key(second.id)):
        assert await redis.ttl(kept) > TTL.total_seconds(), "as long as the key stands for it"


async def test_a_rotated_sealing_key_does_not_make_another_request(ledger: Ledger) -> None:
    key = keys.idempotency_key("owner", "key")
    first = a_job(fingerprints="old:1")
    await ledger.submit(first, idempotency_key=key)
    assert await ledger.submit(a_job(fingerprints="new:9,old:1"), idempotency_key=key) == ("exists", first.id)


async def test_only_one_claim_holds_a_job(ledger: Ledger) -> None:
    job = await submitted(ledger)
    assert (await claim(ledger, job)).verdict == "granted"
    assert (await claim(ledger, job, token="t2")).verdict == "leased"


async def test_a_claim_whose_reply_was_lost_is_granted_again(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job)
    again = await claim(ledger, job)
    assert (again.verdict, again.epoch) == ("granted", 1)
    assert again.record is not None
    assert again.record.attempts_begun == 1


async def test_a_claim_of_nothing_or_of_an_ended_job_gives_nothing(ledger: Ledger) -> None:
    job = a_job()
    assert (await claim(ledger, job)).verdict == "missing"
    await ledger.submit(job)
    await claim(ledger, job)
    await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
    assert (await claim(ledger, job, token="t2")).verdict == "final"


async def test_a_job_past_its_deadline_is_not_run(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger, timeout_ms=1)

    async def passed() -> bool:
        return await reap(ledger) == [("expired", job.id)]

    await async_wait_until(passed, 5, "the deadline to pass")
    assert (await claim(ledger, job)).verdict == "expired"
    assert await reap(ledger) == [("expired", job.id)]
    assert await ledger.conclude(job.id, 0, JobState.EXPIRED, META)
    assert await state(ledger, job) is JobState.EXPIRED
    await assert_nothing_left(redis)


async def test_a_lease_that_ran_out_is_reaped_and_fences_its_old_holder(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job, lease=NO_LEASE)
    assert await reap(ledger) == [("requeued", job.id)]

    second = await claim(ledger, job, token="t2")
    assert (second.verdict, second.epoch) == ("granted", 2)
    assert not await ledger.begin_attempt(job.id, 1, begun=2, ended=())
    assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "stale"
    assert (await ledger.renew({job.id: 1}, lease=LEASE)).stop == {job.id: "lost"}
    assert await ledger.finish(job.id, 2, JobState.ANSWERED, META, attempts=()) == "done"


async def test_a_renewed_lease_is_not_reaped(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job, lease=NO_LEASE)
    assert (await ledger.renew({job.id: 1}, lease=LEASE)).stop == {}
    assert await reap(ledger) == []


async def test_a_reap_that_comes_later_than_it_was_meant_reaps_nothing(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job, lease=NO_LEASE)
    now_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    late = await ledger.reap(renewed_ms=now_ms - 7_600, within=timedelta(seconds=7.5))
    assert (late, await state(ledger, job)) == ([], JobState.RUNNING)
    overdue = await submitted(ledger, timeout_ms=1)
    await async_wait_until(lambda: ledger.reap(renewed_ms=0, within=LEASE), 5, "the deadline to pass")
    assert await ledger.reap(renewed_ms=0, within=LEASE) == [("expired", overdue.id)]
    assert await ledger.conclude(overdue.id, 0, JobState.EXPIRED, META)
    in_time = await ledger.reap(renewed_ms=now_ms - 5_000, within=timedelta(seconds=7.5))
    assert in_time == [("requeued", job.id)]


async def test_a_late_finish_before_any_reap_still_counts(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job, lease=NO_LEASE)
    assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "done"
    assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "already"


async def test_a_worker_does_not_take_its_own_finish_for_a_loss(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job)
    await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
    assert (await ledger.renew({job.id: 1}, lease=LEASE)).stop == {}


async def test_a_worker_whose_job_was_ended_by_others_is_told_to_stop(ledger: Ledger) -> None:
    concluded, cancelled = await submitted(ledger, on_worker_loss="fail"), await submitted(ledger)
    for job in (concluded, cancelled):
        await claim(ledger, job, lease=NO_LEASE)
    await reap(ledger)
    assert await ledger.conclude(concluded.id, 1, JobState.FAILED, META)
    assert await ledger.cancel(cancelled.id, by="caller", meta=META) == "cancelled"
    for job in (concluded, cancelled):
        assert (await ledger.renew({job.id: 1}, lease=LEASE)).stop == {job.id: "lost"}
        assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "stale"


async def test_losses_are_bounded(ledger: Ledger) -> None:
    job = await submitted(ledger)
    for epoch in (1, 2):
        assert (await claim(ledger, job, token=str(epoch), lease=NO_LEASE, most_losses=1)).epoch == epoch
        assert await reap(ledger) == [("requeued", job.id)]
    refused = await claim(ledger, job, token="3", most_losses=1)
    assert refused.verdict == "exhausted"
    assert await ledger.conclude(job.id, refused.epoch, JobState.FAILED, META, dead=True)
    assert await state(ledger, job) is JobState.FAILED


async def test_a_job_that_must_not_rerun_is_named_as_lost(ledger: Ledger) -> None:
    job = await submitted(ledger, on_worker_loss="fail")
    await claim(ledger, job, lease=NO_LEASE)
    assert await reap(ledger) == [("lost", job.id)]
    assert await ledger.conclude(job.id, 1, JobState.FAILED, META)
    assert await reap(ledger) == []


async def test_conclude_does_not_touch_a_job_that_is_held(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job)
    assert not await ledger.conclude(job.id, 1, JobState.FAILED, META)
    assert not await ledger.conclude(job.id, 0, JobState.EXPIRED, META)
    assert await state(ledger, job) is JobState.RUNNING


async def test_cancel_ends_a_waiting_job_and_flags_a_running_one(ledger: Ledger, redis: Redis) -> None:
    waiting, running = await submitted(ledger), await submitted(ledger)
    await claim(ledger, running)
    assert await ledger.cancel(waiting.id, by="caller", meta=META) == "cancelled"
    assert await ledger.cancel(running.id, by="caller", meta=META) == "cancelling"
    assert (await ledger.renew({running.id: 1}, lease=LEASE)).stop == {running.id: "cancelled"}
    assert await ledger.finish(running.id, 1, JobState.CANCELLED, META, attempts=()) == "done"
    assert await ledger.cancel(running.id, by="caller", meta=META) == "ended"
    assert await ledger.cancel(str(uuid.uuid4()), by="caller", meta=META) == "missing"
    assert (await claim(ledger, waiting)).verdict == "withdrawn"
    assert (await claim(ledger, running)).verdict == "final"
    await assert_nothing_left(redis)


async def test_a_job_cancelled_while_it_waited_is_told_of_once(ledger: Ledger, redis: Redis) -> None:
    waiting, running = await submitted(ledger), await submitted(ledger)
    await claim(ledger, running)
    await ledger.cancel(running.id, by="caller", meta=META)
    await ledger.finish(running.id, 1, JobState.CANCELLED, META, attempts=())
    assert await reap(ledger) == [], "its worker has told"
    await ledger.cancel(waiting.id, by="caller", meta=META)
    await redis.lpush(keys.WITHDRAWN, waiting.id, running.id[:-1], "no id")
    assert await redis.pttl(keys.WITHDRAWN) > 0
    assert await reap(ledger) == [("withdrawn", waiting.id)]
    await redis.lpush(keys.WITHDRAWN, waiting.id)
    assert await reap(ledger) == []
    assert await redis.exists(keys.WITHDRAWN) == 0


async def test_a_cancelled_job_of_a_lost_worker_is_not_run_again(ledger: Ledger) -> None:
    job = await submitted(ledger)
    await claim(ledger, job, lease=NO_LEASE)
    await ledger.cancel(job.id, by="caller", meta=META)
    assert await reap(ledger) == [("cancelled", job.id)]


async def test_a_job_handed_back_idle_does_not_count_as_lost(ledger: Ledger) -> None:
    job = await submitted(ledger, on_worker_loss="fail")
    await claim(ledger, job)
    for _ in range(2):
        assert await ledger.hand_back(job.id, 1, begun=0, ended=(), call_under_way=False) == "queued"
    again = await claim(ledger, job, token="t2", most_losses=0)
    assert (again.verdict, again.epoch) == ("granted", 2)
    assert again.record is not None
    assert again.record.attempts_begun == 1, "an attempt that made no call is not one"


async def test_a_job_handed_back_in_mid_call_obeys_on_worker_loss(ledger: Ledger) -> None:
    retried, failing = await submitted(ledger), await submitted(ledger, on_worker_loss="fail")
    await claim(ledger, retried)
    await claim(ledger, failing)
    assert await ledger.hand_back(retried.id, 1, begun=1, ended=(), call_under_way=True) == "queued"
    assert await ledger.hand_back(failing.id, 1, begun=1, ended=(), call_under_way=True) == "lost"
    assert (await claim(ledger, retried, token="t2", most_losses=0)).verdict == "exhausted"
    assert await ledger.finish(failing.id, 1, JobState.FAILED, META, attempts=()) == "done"


async def test_a_lost_wake_up_is_found_and_a_deep_queue_left_alone(ledger: Ledger, redis: Redis) -> None:
    lost, waits = await submitted(ledger), await submitted(ledger)
    index = keys.queued_key("llm", 0)
    await redis.zadd(index, {lost.id: 1_000, waits.id: 50_000})
    await redis.ltrim("llm", 0, 0)

    async def announce_again() -> list[str]:
        return await ledger.unannounced("llm", 0, patience=timedelta(seconds=5))

    assert await announce_again() == [lost.id]
    assert await announce_again() == []
    await redis.delete("llm")
    assert await announce_again() == [waits.id]


async def test_replay_starts_a_dead_job_anew(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    await claim(ledger, job)
    assert await ledger.finish(job.id, 1, JobState.FAILED, META, attempts=(), dead=True) == "done"
    assert await redis.zscore(keys.DEAD, job.id) is not None
    assert await ledger.replay(job.id)
    assert await redis.zscore(keys.DEAD, job.id) is None
    assert await redis.get(keys.result_key(job.id)) is None
    again = await claim(ledger, job, token="t2", most_losses=0)
    assert (again.verdict, again.epoch) == ("granted", 2)
    assert not await ledger.replay(job.id)


@pytest.mark.parametrize("field", ["owner", "timeout_ms", "queue", "model"])
async def test_a_broken_record_is_claimed_with_what_is_wrong(
    ledger: Ledger, redis: Redis, field: str
) -> None:
    job = await submitted(ledger)
    await redis.hset(keys.job_key(job.id), field, "\x00")
    granted = await claim(ledger, job)
    assert granted.verdict == "granted"
    if field in ("owner", "timeout_ms"):
        assert granted.record is None
        assert field in str(granted.violation) or "JSON" in str(granted.violation)
    assert await ledger.finish(job.id, 1, JobState.FAILED, META, attempts=()) == "done"


async def test_a_record_of_a_newer_release_is_refused(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    await redis.hset(keys.job_key(job.id), "v", "2")
    assert "version 2" in str((await claim(ledger, job)).violation)
