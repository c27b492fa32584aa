"""Budgets on a real server: calls hold what they may take, and what they took is spent with their end."""

import json
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from faults.shows.budget_steps import run_steps
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.ledger.verdicts import Admission, BudgetAmounts
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, a_job
from support.workers.moved_clock import MovedClock

pytestmark = pytest.mark.leaves_keys("llm", "llm?*", "llmq:*")

LEASE = timedelta(seconds=15)
META = json.dumps({"status": "SUCCESS"})
KEY = "llmq:budget:acme:x:day"
PICO_IN_NANO = 1_000


@pytest.fixture
async def clock(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    return await MovedClock.in_place_of_time(redis, monkeypatch)


def budget(hold: int, cap: int = 100, **fields: Any) -> BudgetAsk:
    return BudgetAsk("acme:x:day", unit="usd", hold=hold, cap=cap, **fields)


async def submitted(ledger: Ledger, **changes: Any) -> Job:
    job = a_job(**changes)
    await ledger.submit(job)
    return job


async def asked(ledger: Ledger, job: Job, *asks: BudgetAsk | LimitAsk, begun: int = 0) -> Admission:
    """What a worker does with a wake-up: it claims the job, and asks for its call."""
    claimed = await ledger.claim(job.id, worker="w", token=job.id, lease=LEASE, most_losses=9)
    assert claimed.verdict == "granted"
    return await ledger.limits.admit(job.id, claimed.epoch, asks, begun=begun, ended=())


async def call(ledger: Ledger, *asks: BudgetAsk | LimitAsk, **changes: Any) -> tuple[Job, Admission]:
    job = await submitted(ledger, **changes)
    return job, await asked(ledger, job, *asks)


async def finish(ledger: Ledger, job: Job, nano_usd: int | None) -> None:
    charge = None if nano_usd is None else Charge(OWNER, "gpt-4", nano_usd * PICO_IN_NANO, 1, 1)
    epoch = await ledger.epoch(job.id)
    done = await ledger.finish(job.id, epoch, JobState.ANSWERED, META, attempts=(), charge=charge)
    assert done == "done"


async def amounts(redis: Redis, *names: str) -> list[int]:
    return [int(value or 0) for value in await redis.hmget(KEY, *(names or ("spent", "held")))]


async def queued(redis: Redis) -> list[str]:
    return [str(one) for one in await redis.zrange("llmq:queued:llm:0", 0, -1)]


async def test_a_call_holds_what_it_may_take_and_spends_what_it_took(ledger: Ledger, redis: Redis) -> None:
    job, admission = await call(ledger, budget(60))
    assert (admission.verdict, admission.budgets) == ("granted", (BudgetAmounts(0, 60, 100),))
    await finish(ledger, job, 25)
    assert await amounts(redis, "spent", "held", "jobs") == [25, 0, 1]


async def test_a_call_without_room_waits_for_others_to_end(ledger: Ledger, redis: Redis) -> None:
    first, _ = await call(ledger, budget(60))
    second, admission = await call(ledger, budget(60))
    assert (admission.verdict, admission.limit) == ("waits", "acme:x:day")
    assert second.id not in await queued(redis), "a job that waits is no worker's work"
    await finish(ledger, first, 30)
    assert second.id in await queued(redis), "30 spent and 60 held are within 100"
    assert (await asked(ledger, second, budget(60))).verdict == "granted"
    await finish(ledger, second, 60)
    assert await amounts(redis) == [90, 0]


async def test_what_is_left_serves_smaller_calls(ledger: Ledger, redis: Redis) -> None:
    """A call that fits into no rest of this budget holds up none that does."""
    first, _ = await call(ledger, budget(60, ends_ms=2**41))
    large, admission = await call(ledger, budget(90, ends_ms=2**41), timeout_ms=2**41)
    assert admission.verdict == "waits"
    await finish(ledger, first, 60)
    assert large.id not in await queued(redis)
    small, granted = await call(ledger, budget(40, ends_ms=2**41))
    assert granted.verdict == "granted"
    await finish(ledger, small, 40)
    assert await amounts(redis) == [100, 0]


async def test_a_call_that_nothing_helps_in_time_is_refused(ledger: Ledger) -> None:
    first, _ = await call(ledger, budget(60))
    await finish(ledger, first, 60)
    _, too_late = await call(ledger, budget(60, ends_ms=2**41))
    assert (too_late.verdict, too_late.budgets) == ("refused", (BudgetAmounts(60, 0, 100),))
    assert too_late.retry_after is not None
    assert too_late.retry_after > timedelta(days=365)
    _, never = await call(ledger, budget(60))
    assert (never.verdict, never.retry_after) == ("refused", None)
    _, too_large = await call(ledger, budget(101))
    assert too_large.verdict == "refused"


async def test_whoever_waits_in_vain_is_told_so_at_once(ledger: Ledger, redis: Redis) -> None:
    """The calls under way have taken what they might: nothing is left for those that waited for them."""
    guild = LimitAsk("guild:x", most_running=9)
    running, _ = await call(ledger, guild, budget(100))
    waiting = [(await call(ledger, guild, budget(60)))[0] for _ in range(6)]
    await finish(ledger, running, 100)
    await ledger.limits.tick()
    assert set(await queued(redis)) == {job.id for job in waiting}
    for job in waiting:
        assert (await asked(ledger, job, guild, budget(60))).verdict == "refused"
        await finish(ledger, job, None)
    assert await amounts(redis) == [100, 0]
    assert not await redis.exists("llmq:running:guild:x", "llmq:waiting:acme:x:day")


async def test_a_budget_that_refuses_keeps_nobody_waiting(ledger: Ledger, redis: Redis) -> None:
    await call(ledger, budget(60, mode="refuse"))
    _, admission = await call(ledger, budget(60, mode="refuse"))
    assert (admission.verdict, admission.budgets) == ("refused", (BudgetAmounts(0, 60, 100),))
    assert await amounts(redis) == [0, 60]


async def test_a_budget_that_warns_refuses_none(ledger: Ledger, redis: Redis) -> None:
    for _ in range(3):
        job, admission = await call(ledger, budget(60, mode="warn", alerts=(50, 100)))
        assert admission.verdict == "granted"
        await finish(ledger, job, 60)
    alerts = [json.loads(one) for one in reversed(await redis.lrange("llmq:alerts", 0, -1))]
    assert [(one["percent"], one["spent"]) for one in alerts] == [(50, "60"), (100, "120")]


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        ("cancel", [0, 0, 0]),
        ("hand back", [0, 0, 0]),
        ("hand back in mid-call", [60, 0, 60]),
        ("lose", [60, 0, 60]),
        ("unknown", [0, 0, 0]),
    ],
)
async def test_whatever_ends_a_call_gives_its_hold_back(
    ledger: Ledger, redis: Redis, ending: str, left: list[int]
) -> None:
    """Of a lost worker's call nothing is known: it counts whole, and is marked as doubtful."""
    job, _ = await call(ledger, budget(60))
    match ending:
        case "cancel":
            await ledger.cancel(job.id, by="caller", meta=META)
            await ledger.hand_back(job.id, 1, begun=0, ended=(), call_under_way=False)
            epoch = await ledger.epoch(job.id)
            await ledger.finish(job.id, epoch, JobState.CANCELLED, META, attempts=())
        case "hand back" | "hand back in mid-call":
            under_way = ending != "hand back"
            await ledger.hand_back(job.id, 1, begun=0, ended=(), call_under_way=under_way)
        case "lose":
            await redis.zadd("llmq:leases", {job.id: 1})
            renewed_ms = (await ledger.renew({}, lease=LEASE)).now_ms
            await ledger.reap(renewed_ms=renewed_ms, within=LEASE)
        case "unknown":
            await finish(ledger, job, None)
    assert await amounts(redis, "spent", "held", "doubtful") == left


async def test_a_waiting_call_that_is_cancelled_holds_nothing(ledger: Ledger, redis: Redis) -> None:
    await call(ledger, budget(60))
    waiting, _ = await call(ledger, budget(60))
    assert await ledger.cancel(waiting.id, by="caller", meta=META) == "cancelled"
    await ledger.limits.give_up(waiting.id)
    assert await amounts(redis) == [0, 60]
    assert not await redis.exists("llmq:waiting:acme:x:day", f"llmq:held:{waiting.id}")


async def test_the_next_attempt_holds_its_own_price(ledger: Ledger, redis: Redis) -> None:
    job, _ = await call(ledger, budget(60))
    epoch = await ledger.epoch(job.id)
    again = await ledger.limits.admit(job.id, epoch, [budget(20)], begun=1, ended=())
    assert (again.verdict, again.budgets) == ("granted", (BudgetAmounts(0, 20, 100),))
    await finish(ledger, job, 20)
    assert await amounts(redis) == [20, 0]


async def test_room_that_came_for_a_cheaper_call_is_none_for_a_dearer_one(
    ledger: Ledger, redis: Redis
) -> None:
    """As where another deployment of the name is picked, while the job waited."""
    first, _ = await call(ledger, budget(95))
    waiting, admission = await call(ledger, budget(10))
    assert admission.verdict == "waits"
    await finish(ledger, first, 80)
    assert await amounts(redis) == [80, 10]
    dearer = await asked(ledger, waiting, budget(21))
    assert dearer.verdict == "refused"
    assert await amounts(redis) == [80, 0]


async def test_the_next_period_lets_those_go_who_wait(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    ends_ms = await clock.now_ms() + 30_000
    spent, _ = await call(ledger, budget(100, ends_ms=ends_ms))
    await finish(ledger, spent, 100)
    _, refused = await call(ledger, budget(60, ends_ms=ends_ms), timeout_ms=10_000)
    assert refused.verdict == "refused"
    waiting, admission = await call(ledger, budget(60, ends_ms=ends_ms), timeout_ms=600_000)
    assert admission.verdict == "waits"
    assert await ledger.limits.tick() == timedelta(seconds=30)
    await clock.move(30)
    await ledger.limits.tick()
    assert waiting.id in await queued(redis)
    tomorrow = BudgetAsk("acme:x:tomorrow", unit="usd", hold=60, cap=100, ends_ms=ends_ms + 30_000)
    assert (await asked(ledger, waiting, tomorrow)).verdict == "granted"
    assert await amounts(redis) == [100, 0]
    assert await redis.hget("llmq:budget:acme:x:tomorrow", "held") == "60"


async def test_a_call_counts_in_the_period_that_let_it_through(
    ledger: Ledger, redis: Redis, clock: MovedClock
) -> None:
    job, _ = await call(ledger, budget(60, ends_ms=await clock.now_ms() + 1_000))
    await clock.move(2)
    await finish(ledger, job, 50)
    assert await amounts(redis) == [50, 0]
    assert await redis.pttl(KEY) > 34 * 86_400_000, "it can be looked up for five weeks"


async def test_what_waits_at_a_narrow_limit_holds_no_budget(ledger: Ledger, redis: Redis) -> None:
    guild = LimitAsk("guild:x", most_running=1)
    await call(ledger, guild, budget(60))
    _, admission = await call(ledger, guild, budget(40))
    assert (admission.verdict, admission.limit) == ("waits", "guild:x")
    assert await amounts(redis) == [0, 60]


async def test_an_answer_dearer_than_its_hold_is_spent_and_counted(ledger: Ledger, redis: Redis) -> None:
    job, _ = await call(ledger, budget(60))
    await finish(ledger, job, 130)
    assert await amounts(redis, "spent", "held", "overshoot") == [130, 0, 70]
    _, refused = await call(ledger, budget(1))
    assert refused.verdict == "refused"


async def test_each_alert_comes_once(ledger: Ledger, redis: Redis) -> None:
    for _ in range(10):
        job, _ = await call(ledger, budget(10, alerts=(50, 80, 100)))
        await finish(ledger, job, 10)
    alerts = [json.loads(one) for one in reversed(await redis.lrange("llmq:alerts", 0, -1))]
    assert [(one["percent"], one["spent"]) for one in alerts] == [(50, "50"), (80, "80"), (100, "100")]


async def test_random_steps_spend_what_the_books_say(valkey: ValkeyServer) -> None:
    """`python -m faults.shows.budget_steps --steps 1000000` is the long form."""
    seen = await run_steps(valkey.url, steps=4_000, seed=16)
    assert min(seen.values()) > 10, seen
