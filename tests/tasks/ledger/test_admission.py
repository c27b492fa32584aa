"""Admission on a real server: jobs pass their limits before each call, or wait and start by themselves."""

import json
import uuid
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.call_use import CallUse
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.ledger.verdicts import Admission
from rustic_ai.llm_queue.tasks.ledger.wakeup_message import wakeup_message
from support.workers.engine_kit import a_job
from support.workers.moved_clock import MovedClock

#: Jobs are left in the middle of their lives.
pytestmark = pytest.mark.leaves_keys(
    "llm", "llm?*", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:test-clock"
)

LEASE = timedelta(seconds=15)
MINUTE_US = 60_000_000
META = json.dumps({"status": "SUCCESS"})


@pytest.fixture
async def clock(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    return await MovedClock.in_place_of_time(redis, monkeypatch)


def places(most: int, name: str = "guild") -> LimitAsk:
    return LimitAsk(f"{name}:x", most_running=most)


def rate(a_minute: int, at_once: int = 1, name: str = "model") -> LimitAsk:
    interval = MINUTE_US // a_minute
    return LimitAsk(f"{name}:x", request_us=interval, request_burst_us=at_once * interval)


def tokens(a_minute: int, cost: int, at_once: int, name: str = "tokens") -> LimitAsk:
    interval = MINUTE_US / a_minute
    return LimitAsk(f"{name}:x", token_us=interval, token_burst_us=round(at_once * interval), tokens=cost)


async def submitted(ledger: Ledger, **changes: Any) -> Job:
    job = a_job(**changes)
    await ledger.submit(job)
    return job


async def claim(ledger: Ledger, job: Job, lease: timedelta = LEASE) -> int:
    claimed = await ledger.claim(job.id, worker="w", token=uuid.uuid4().hex, lease=lease, most_losses=2)
    assert claimed.verdict == "granted"
    return claimed.epoch


async def admit(
    ledger: Ledger, job: Job, *limits: LimitAsk, lease: timedelta = LEASE, **options: Any
) -> Admission:
    """What a worker does with a wake-up: it claims the job, and asks for its first call."""
    epoch = await claim(ledger, job, lease)
    return await ledger.limits.admit(job.id, epoch, limits, begun=0, ended=(), **options)


async def finish(ledger: Ledger, job: Job, epoch: int = 1) -> None:
    assert await ledger.finish(job.id, epoch, JobState.ANSWERED, META, attempts=()) == "done"


async def announced(redis: Redis) -> list[str]:
    """The jobs whose wake-ups the ledger has sent since the last look, the first to be taken first."""
    waiting = cast("list[str]", await redis.lrange("llm", 0, -1))
    await redis.delete("llm")
    return [json.loads(message)["headers"]["id"] for message in reversed(waiting)]


async def states_of_limits(redis: Redis) -> dict[str, list[str]]:
    """What limits hold of jobs: nothing, once all have ended."""
    found: dict[str, list[str]] = {}
    for pattern in ("llmq:running:*", "llmq:waiting:*"):
        async for key in redis.scan_iter(pattern):
            found[key] = cast("list[str]", await redis.zrange(key, 0, -1))
    async for key in redis.scan_iter("llmq:held:*"):
        found[key] = []
    for key in ("llmq:alarms", "llmq:paused"):
        if members := await redis.zrange(key, 0, -1):
            found[key] = cast("list[str]", members)
    return found


async def test_jobs_beyond_a_limit_wait_and_start_in_order_when_others_end(
    ledger: Ledger, redis: Redis
) -> None:
    jobs = [await submitted(ledger) for _ in range(5)]
    for place, job in enumerate(jobs):
        await redis.hset(f"llmq:job:{job.id}", "created_ms", str(1_000_000 + place))
    verdicts = [(await admit(ledger, job, places(2))).verdict for job in jobs]
    assert verdicts == ["granted", "granted", "waits", "waits", "waits"]
    record = await ledger.record(jobs[2].id)
    assert record is not None
    assert (record.state, record.attempts_begun, record.handbacks) == (JobState.QUEUED, 0, 1)
    assert record.started_ms is None, "it still waits"
    assert await redis.zcard("llmq:queued:llm:0") == 0, "a job that waits for a limit is no worker's work"
    await announced(redis)
    for ended, next_one in ((0, 2), (1, 3)):
        await finish(ledger, jobs[ended])
        assert await announced(redis) == [jobs[next_one].id]
        assert (await admit(ledger, jobs[next_one], places(2))).verdict == "granted"
    assert await redis.zcard("llmq:running:guild:x") == 2


async def test_the_ledgers_wakeup_is_the_one_a_submit_sends(ledger: Ledger, redis: Redis) -> None:
    first, second = await submitted(ledger), await submitted(ledger, model='gp"t/4é')
    for job in (first, second):
        await admit(ledger, job, places(1))
    await redis.delete("llm")
    await finish(ledger, first)
    (message,) = await redis.lrange("llm", 0, -1)
    assert json.loads(message) == json.loads(wakeup_message(second))


async def test_a_newcomer_does_not_pass_those_who_wait(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    big, small = tokens(60, 50, 60), tokens(60, 1, 60)
    jobs = []
    for _ in range(3):
        await clock.move(1)
        jobs.append(await submitted(ledger))
    first, waiting, newcomer = jobs
    assert (await admit(ledger, first, big)).verdict == "granted"
    waits = await admit(ledger, waiting, big)
    assert waits.verdict == "waits"
    assert waits.retry_after == timedelta(seconds=40)
    assert (await admit(ledger, newcomer, small)).verdict == "waits", "there is room for it, but not its turn"
    await announced(redis)
    await clock.move(40)
    await ledger.limits.tick()
    assert await announced(redis) == [waiting.id]


async def test_a_more_urgent_job_goes_first(ledger: Ledger, redis: Redis) -> None:
    first = await submitted(ledger)
    await admit(ledger, first, places(1))
    late, urgent = await submitted(ledger, priority=9), await submitted(ledger, priority=3)
    assert (await admit(ledger, late, places(1))).ahead == 0
    assert (await admit(ledger, urgent, places(1))).ahead == 0
    await finish(ledger, first)
    assert await redis.zcard("llmq:queued:llm:3") == 1
    assert await redis.zcard("llmq:queued:llm:9") == 0


async def test_a_rate_is_kept_and_used_to_the_full(ledger: Ledger, redis: Redis, clock: MovedClock) -> None:
    jobs = [await submitted(ledger) for _ in range(8)]
    for job in jobs:
        await admit(ledger, job, rate(60, at_once=2))
    await announced(redis)
    started = 2
    for second in range(1, 7):
        await clock.move(1)
        after = await ledger.limits.tick()
        started += len(await announced(redis))
        assert started == 2 + second, "one a second after the burst"
        assert after == (timedelta(seconds=1) if second < 6 else None)


async def test_a_call_larger_than_the_bucket_goes_alone_and_leaves_a_debt(
    ledger: Ledger, clock: MovedClock
) -> None:
    assert (await admit(ledger, await submitted(ledger), tokens(60, 90, 10))).verdict == "granted"
    waits = await admit(ledger, await submitted(ledger), tokens(60, 1, 10))
    assert waits.retry_after == timedelta(seconds=81)


async def test_what_was_estimated_too_high_goes_back_with_the_true_use(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    job, waiting = await submitted(ledger), await submitted(ledger)
    epoch = await claim(ledger, job)
    await ledger.limits.admit(job.id, epoch, [tokens(60, 60, 60)], begun=0, ended=())
    await admit(ledger, waiting, tokens(60, 50, 60))
    await announced(redis)
    used_by = [AttemptRecord(number=1, epoch=1, model="m", status="ok")]
    next_call = await ledger.limits.admit(
        job.id, epoch, [places(5)], begun=1, ended=used_by, used=CallUse(3, 7)
    )
    assert next_call.verdict == "granted"
    assert await announced(redis) == [waiting.id], "50 of the 60 were not used"


async def test_a_job_passes_narrow_limits_first_and_keeps_them_while_it_waits(
    ledger: Ledger, redis: Redis
) -> None:
    holder, job = await submitted(ledger), await submitted(ledger)
    await admit(ledger, holder, places(1, "key"))
    waits = await admit(ledger, job, places(1, "guild"), places(1, "key"))
    assert (waits.verdict, waits.limit) == ("waits", "key:x")
    assert await redis.zrange("llmq:running:guild:x", 0, -1) == [job.id]
    other = await submitted(ledger)
    assert (await admit(ledger, other, places(1, "guild"), places(1, "key"))).limit == "guild:x"
    await announced(redis)
    await finish(ledger, holder)
    assert await announced(redis) == [job.id]


async def test_a_granted_job_is_charged_once(ledger: Ledger, redis: Redis, clock: MovedClock) -> None:
    limit = rate(60)
    await admit(ledger, await submitted(ledger), limit)
    job = await submitted(ledger)
    await admit(ledger, job, limit)
    await clock.move(1)
    await ledger.limits.tick()
    taken = await redis.hget("llmq:limit:model:x", "r")
    assert (await admit(ledger, job, limit)).verdict == "granted"
    assert await redis.hget("llmq:limit:model:x", "r") == taken


async def test_a_granted_job_that_is_taken_up_late_asks_again(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    limit = rate(60)
    await admit(ledger, await submitted(ledger), limit)
    job, newcomer = await submitted(ledger), await submitted(ledger)
    await admit(ledger, job, limit)
    await clock.move(1)
    await ledger.limits.tick()
    await clock.move(1.5)
    assert (await admit(ledger, newcomer, limit)).verdict == "granted"
    assert (await admit(ledger, job, limit)).verdict == "waits", "the provider would see two at once"


async def test_admission_sent_twice_takes_once(ledger: Ledger, redis: Redis) -> None:
    job, waiting = await submitted(ledger), await submitted(ledger)
    limit = LimitAsk("model:x", request_us=1000, request_burst_us=60_000_000, most_running=1)
    epoch = await claim(ledger, job)
    for _ in range(2):
        assert (await ledger.limits.admit(job.id, epoch, [limit], begun=0, ended=())).verdict == "granted"
    second = await claim(ledger, waiting)
    for _ in range(2):
        assert (await ledger.limits.admit(waiting.id, second, [limit], begun=0, ended=())).verdict == "waits"
    assert await redis.zcard("llmq:waiting:model:x") == 1
    record = await ledger.record(waiting.id)
    assert record is not None
    assert record.handbacks == 1


async def test_nobody_waits_who_does_not_want_to_or_whose_turn_comes_too_late(
    ledger: Ledger, redis: Redis
) -> None:
    await admit(ledger, await submitted(ledger), rate(1), places(9))
    job = await submitted(ledger)
    epoch = await claim(ledger, job)
    refused = await ledger.limits.admit(
        job.id, epoch, [places(9), rate(1)], begun=0, ended=(), longest_wait=timedelta(0)
    )
    assert (refused.verdict, refused.limit) == ("refused", "model:x")
    assert refused.retry_after is not None
    short = await submitted(ledger, timeout_ms=30_000)
    assert (await admit(ledger, short, rate(1))).verdict == "refused", "its deadline comes before its turn"
    assert await redis.zscore("llmq:running:guild:x", job.id) is None, "what it had passed is given back"
    assert await redis.exists(f"llmq:held:{job.id}") == 0


async def test_a_job_that_has_waited_long_enough_comes_back_to_be_refused(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    await admit(ledger, await submitted(ledger), places(1))
    job, wait = await submitted(ledger), timedelta(seconds=5)
    assert (await admit(ledger, job, places(1), longest_wait=wait)).verdict == "waits"
    await announced(redis)
    await clock.move(5)
    await ledger.limits.tick()
    assert await announced(redis) == [job.id]
    assert (await admit(ledger, job, places(1), longest_wait=wait)).verdict == "refused"
    assert await redis.hget(f"llmq:job:{job.id}", "limited_ms") == "5000"


async def test_a_retry_waits_for_its_time_without_a_worker(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    job, waiting = await submitted(ledger), await submitted(ledger)
    await admit(ledger, job, places(1))
    await admit(ledger, waiting, places(1))
    await announced(redis)
    failed = AttemptRecord(number=1, epoch=1, model="m", status="failed")
    pause = timedelta(seconds=20)
    for _ in range(2):
        assert await ledger.limits.pause(job.id, 1, pause, begun=1, ended=[failed]) == "queued"
    assert await announced(redis) == [waiting.id], "its place is another's meanwhile"
    assert await ledger.limits.tick() == pause
    await clock.move(20)
    await ledger.limits.tick()
    assert await announced(redis) == [job.id]
    claimed = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=0)
    assert claimed.record is not None
    assert claimed.record.attempts == (failed,)
    assert claimed.record.attempts_begun == 2


async def test_a_closed_limit_lets_nobody_through_then_one_then_more(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    limit = LimitAsk("cooldown:x")
    jobs = sorted([await submitted(ledger) for _ in range(9)], key=lambda job: job.id)
    assert (await admit(ledger, jobs[0], limit)).verdict == "granted"
    longest = timedelta(minutes=15)
    for _ in range(3):
        closed = await ledger.limits.cool(limit, timedelta(seconds=7), longest=longest, why="429")
        assert closed == timedelta(seconds=7)
    verdicts = [(await admit(ledger, job, limit)).verdict for job in jobs[1:8]]
    assert verdicts == ["waits"] * 7
    assert (await ledger.claim(jobs[8].id, worker="w", token="t", lease=LEASE, most_losses=2)).limits_closed
    await announced(redis)
    await clock.move(7)
    await ledger.limits.tick()
    assert await announced(redis) == [jobs[1].id], "one goes to see whether it is open"
    assert (await admit(ledger, jobs[1], limit)).verdict == "granted"
    await finish(ledger, jobs[1], epoch=2)
    assert await announced(redis) == [job.id for job in jobs[2:6]], "then a few with each that ends"
    await ledger.limits.tick()
    assert await announced(redis) == [job.id for job in jobs[6:8]]
    newcomer = await ledger.claim(
        (await submitted(ledger)).id, worker="w", token="t", lease=LEASE, most_losses=2
    )
    assert not newcomer.limits_closed


async def test_cooldowns_that_follow_one_another_grow(ledger: Ledger, clock: MovedClock) -> None:
    limit, longest, pauses = LimitAsk("cooldown:x"), timedelta(seconds=6), []
    for _ in range(4):
        pause = await ledger.limits.cool(limit, None, longest=longest, why="429")
        pauses.append(pause.total_seconds())
        await clock.move(pause.total_seconds())
    assert pauses == [1, 2, 4, 6]


async def test_a_probe_that_is_not_heard_of_gives_way_to_another(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    limit = LimitAsk("cooldown:x")
    await ledger.limits.cool(limit, timedelta(seconds=1), longest=timedelta(minutes=1), why="429")
    await clock.move(1)
    probe, waiting = await submitted(ledger), await submitted(ledger)
    assert (await admit(ledger, probe, limit)).verdict == "granted"
    assert (await admit(ledger, waiting, limit)).verdict == "waits"
    await announced(redis)
    await clock.move(5)
    await ledger.limits.tick()
    assert await announced(redis) == [waiting.id]


@pytest.mark.parametrize("stage", ["waiting", "granted", "running", "paused"])
@pytest.mark.parametrize("end", ["cancel", "expire", "lose", "hand back", "finish"])
async def test_whatever_ends_a_job_gives_back_what_it_held(
    ledger: Ledger, redis: Redis, clock: MovedClock, stage: str, end: str
) -> None:
    limits = [places(1, "guild"), LimitAsk("model:x", request_us=1, request_burst_us=9, most_running=1)]
    holder, job = await submitted(ledger), await submitted(ledger, on_worker_loss="fail")
    running = stage in ("running", "paused")
    if not running:
        await admit(ledger, holder, limits[1])
    epoch = 1
    assert (await admit(ledger, job, *limits)).verdict == ("granted" if running else "waits")
    if stage == "granted":
        await finish(ledger, holder)
    if stage == "paused":
        await ledger.limits.pause(job.id, 1, timedelta(hours=1), begun=1, ended=())
    await end_job(
        ledger, redis, job, epoch, end if running else "cancel" if end in ("lose", "finish") else end
    )
    if stage == "waiting":
        await finish(ledger, holder)
    held = await states_of_limits(redis)
    held.pop("llmq:paused", None)
    assert held == {}
    assert await ledger.limits.repair_limits() == 0


async def end_job(ledger: Ledger, redis: Redis, job: Job, epoch: int, end: str) -> None:
    record = await ledger.record(job.id)
    assert record is not None
    if end == "cancel":
        if await ledger.cancel(job.id, by="caller", meta=META) == "cancelled":
            await ledger.limits.give_up(job.id)
        else:
            assert await ledger.finish(job.id, epoch, JobState.CANCELLED, META, attempts=()) == "done"
    elif end == "hand back" and record.state is JobState.RUNNING:
        assert await ledger.hand_back(job.id, epoch, begun=0, ended=(), call_under_way=False) == "queued"
    elif end == "finish" and record.state is JobState.RUNNING:
        await finish(ledger, job)
    else:
        if record.state is JobState.RUNNING:
            await redis.zadd("llmq:leases", {job.id: 1})
        assert await ledger.conclude(job.id, epoch, JobState.EXPIRED, META)


async def test_a_lost_workers_places_are_free_in_the_step_that_requeues_its_job(
    ledger: Ledger, redis: Redis
) -> None:
    lost, waiting = await submitted(ledger), await submitted(ledger)
    assert (await admit(ledger, lost, places(1), lease=timedelta(0))).verdict == "granted"
    assert (await admit(ledger, waiting, places(1))).verdict == "waits"
    await announced(redis)
    renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
    assert await ledger.reap(renewed_ms=renewed_ms, within=LEASE) == [("requeued", lost.id)]
    assert await announced(redis) == [waiting.id]


async def test_a_worker_that_lost_its_lease_admits_nothing(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    epoch = await claim(ledger, job)
    fenced = await ledger.limits.admit(job.id, epoch - 1, [places(1)], begun=0, ended=())
    assert fenced.verdict == "stale"
    assert await states_of_limits(redis) == {}


async def test_a_cancel_that_came_before_admission_is_heard(ledger: Ledger, redis: Redis) -> None:
    job = await submitted(ledger)
    epoch = await claim(ledger, job)
    assert await ledger.cancel(job.id, by="caller", meta=META) == "cancelling"
    assert (await ledger.limits.admit(job.id, epoch, [places(1)], begun=0, ended=())).verdict == "cancelled"
    assert await states_of_limits(redis) == {}


async def test_no_key_of_a_limit_stays_for_ever(ledger: Ledger, redis: Redis) -> None:
    limit = LimitAsk("model:x", request_us=1e6, request_burst_us=10**6, most_running=5)
    for _ in range(3):
        await admit(ledger, await submitted(ledger), limit, longest_wait=timedelta(seconds=30))
    await ledger.limits.cool(limit, timedelta(seconds=1), longest=timedelta(seconds=1), why="429")
    names = [
        key
        async for key in redis.scan_iter("llmq:*")
        if not key.startswith(("llmq:job", "llmq:queued", "llmq:leases", "llmq:deadlines"))
    ]
    assert len(names) >= 8
    assert {key: await redis.ttl(key) > 0 for key in names} == dict.fromkeys(names, True)


async def test_a_limit_without_alarm_or_holder_is_put_right(ledger: Ledger, redis: Redis) -> None:
    holder, waiting = await submitted(ledger), await submitted(ledger)
    await admit(ledger, holder, places(1))
    await admit(ledger, waiting, places(1))
    await redis.delete(f"llmq:held:{holder.id}")
    await finish(ledger, holder)
    await announced(redis)
    assert await ledger.limits.repair_limits() == 1, "the place of a job that is gone"
    await ledger.limits.tick()
    assert await announced(redis) == [waiting.id]
