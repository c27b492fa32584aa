"""Fair share: whose job is next where more wait than run."""

from collections import Counter
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from support.workers.turns_kit import Hands

#: Some jobs are left waiting or running.
pytestmark = pytest.mark.leaves_keys("llm", "llm*", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


@pytest.fixture
def hands(redis: Redis) -> Hands:
    return Hands(redis)


async def test_a_queue_that_is_not_saturated_sends_wakeups_at_once_and_keeps_no_turns(hands: Hands) -> None:
    for _ in range(40):
        job = await hands.submit("a")
        assert await hands.take() == job
        await hands.finish(job)
    assert not await hands.redis.exists("llmq:arrivals:llm", "llmq:flows:llm:0", "llmq:vtime:llm:0")


async def test_a_batch_is_run_to_its_end(hands: Hands) -> None:
    for _ in range(300):
        await hands.submit("a")
    assert await hands.redis.llen("llm") == 16
    await hands.run()
    assert len(hands.taken) == 300
    assert len({job.id for job in hands.taken}) == 300
    assert not await hands.redis.exists("llmq:arrivals:llm", "llmq:flows:llm:0")


async def test_jobs_of_one_guild_keep_their_order(hands: Hands) -> None:
    jobs = [await hands.submit("a") for _ in range(16)]
    later = [await hands.submit("a") for _ in range(60)]
    for place, job in enumerate(later):
        await hands.redis.hset(keys.job_key(job.id), "created_ms", str(1_000_000 + place))
    await hands.run()
    assert hands.taken == jobs + later


@pytest.mark.parametrize("guilds", [1, 100])
async def test_anothers_single_call_is_next_whatever_waits(hands: Hands, guilds: int) -> None:
    for number in range(300):
        await hands.submit("batch", f"g{number % guilds}")
    first = await hands.take()
    assert first is not None
    for _ in range(100):
        call = await hands.submit("single")
        await hands.finish(first)
        first = await hands.take()
        assert first == call, "it waits for one place's release"
        await hands.finish(first)
        first = await hands.take()
        assert first is not None
        assert first.owner.org == "batch"


async def test_weights_hold_however_the_jobs_come_in(hands: Hands) -> None:
    await hands.share(weights={"heavy": 4})
    for number in range(1_500):
        await hands.submit("light" if number % 5 else "heavy")
    for _ in range(900):
        await hands.submit("heavy")
    await hands.run(800)
    shares = Counter(job.owner.org for job in hands.taken[200:800])
    assert shares["heavy"] / shares["light"] == pytest.approx(4, rel=0.05)


async def test_a_guilds_weight_is_of_its_organisations_share(hands: Hands) -> None:
    await hands.share(weights={"a/research": 3})
    for number in range(600):
        await hands.submit("a", "research" if number % 2 else "other")
        await hands.submit("b")
    await hands.run(500)
    taken = hands.taken[100:500]
    orgs = Counter(job.owner.org for job in taken)
    guilds = Counter(job.owner.guild for job in taken if job.owner.org == "a")
    assert orgs["a"] == pytest.approx(200, abs=10)
    assert guilds["research"] / guilds["other"] == pytest.approx(3, rel=0.1)


async def test_shares_are_of_tokens_and_not_of_jobs(hands: Hands) -> None:
    sizes = {f"org{number}": 100 * 10 ** (number % 4) for number in range(20)}
    for org, tokens in sizes.items():
        for _ in range(400 if tokens <= 1_000 else 60):
            await hands.submit(org, tokens=tokens)
    await hands.share()
    used: Counter[str] = Counter()
    while len(hands.taken) < 1_500:
        job = await hands.take()
        assert job is not None
        tokens = sizes[job.owner.org]
        await hands.finish(job, (tokens, 0))
        if len(hands.taken) > 250:
            used[job.owner.org] += tokens
    small = [used[org] for org, tokens in sizes.items() if tokens <= 1_000]
    # Those of 100,000 tokens get one job where others get a thousand: their remainder is a whole job.
    assert sum(small) ** 2 / (len(small) * sum(value**2 for value in small)) >= 0.98


async def test_what_a_job_really_took_is_charged(hands: Hands) -> None:
    for _ in range(300):
        await hands.submit("modest")
        await hands.submit("greedy")
    while len(hands.taken) < 300:
        job = await hands.take()
        assert job is not None
        await hands.finish(job, (100, 10_000 if job.owner.org == "greedy" else 250))
    shares = Counter(job.owner.org for job in hands.taken[100:])
    assert shares["modest"] > 8 * shares["greedy"]


async def test_an_hour_of_idleness_earns_no_credit(hands: Hands) -> None:
    for _ in range(200):
        await hands.submit("busy")
    await hands.run(100)
    for _ in range(200):
        await hands.submit("idle")
        await hands.submit("busy")
    before = len(hands.taken)
    await hands.run(200)
    shares = Counter(job.owner.org for job in hands.taken[before:])
    assert shares["idle"] == pytest.approx(100, abs=8), "half, since it came back"


async def test_expectations_that_proved_too_high_hold_nobody_up(hands: Hands) -> None:
    """The answers of a batch are far shorter than was expected of its first jobs."""
    for number in range(300):
        await hands.submit("batch", f"g{number % 5}")
    under_way = [await hands.take() for _ in range(8)]
    for _ in range(20):
        call = await hands.submit("single")
        for job in under_way:
            assert job is not None
            await hands.finish(job, (30, 1))
        under_way = [await hands.take() for _ in range(8)]
        assert call in under_way, "it waits for one place's release"
        await hands.finish(call, (30, 1))
        under_way.remove(call)


async def test_a_burst_of_a_newcomer_keeps_its_order(hands: Hands) -> None:
    for _ in range(200):
        await hands.submit("busy")
    await hands.run(10)
    burst = [await hands.submit("new") for _ in range(20)]
    for place, job in enumerate(burst):
        await hands.redis.hset(keys.job_key(job.id), "created_ms", str(1_000_000 + place))
    await hands.run()
    assert [job for job in hands.taken if job.owner.org == "new"] == burst


async def test_lower_priorities_get_one_in_sixteen_of_a_flood(hands: Hands) -> None:
    for _ in range(400):
        await hands.submit("a")
        await hands.submit("a", priority=9)
    await hands.run(320)
    taken = Counter(job.priority for job in hands.taken)
    assert taken[9] == pytest.approx(20, abs=4)


async def test_a_job_that_waited_long_goes_up_band_by_band(hands: Hands) -> None:
    for _ in range(10):
        await hands.submit("a")
    old = await hands.submit("a", priority=9)
    for band in ("6", "3", "0"):
        assert await hands.share(ageing="1h") == 0
        await hands.redis.hset(keys.job_key(old.id), mapping={"created_ms": "1", "lifted_ms": "1"})
        assert await hands.share(ageing="1h") == 1
        assert await hands.redis.hget(keys.job_key(old.id), "priority") == band
    await hands.run()
    assert hands.taken[-1] == old, "behind those in the window that it came into"


async def test_what_went_up_later_does_not_hide_what_went_up_before(hands: Hands) -> None:
    first, second = [await hands.submit("a", priority=9) for _ in range(2)]
    for job in (first, second):
        await hands.redis.hset(keys.job_key(job.id), "created_ms", "1")
        assert await hands.share(ageing="1h") == 1
        if job is first:
            await hands.redis.hset(keys.job_key(second.id), "created_ms", "1")
    await hands.redis.hset(keys.job_key(first.id), "lifted_ms", "1")
    assert await hands.share(ageing="1h") == 1
    assert await hands.redis.hget(keys.job_key(first.id), "priority") == "3"


@pytest.mark.parametrize("way", ["ageing", "one in sixteen"])
async def test_wakeups_of_ended_jobs_hold_up_nobody_at_a_low_priority(hands: Hands, way: str) -> None:
    for _ in range(100):
        await hands.submit("a")
    gone = [await hands.submit("a", priority=9) for _ in range(3)]
    waiting = await hands.submit("a", priority=9)
    await hands.share()
    for job in gone:
        assert await hands.ledger.cancel(job.id, by="caller", meta="{}") == "cancelled"
    if way == "ageing":
        await hands.redis.hset(keys.job_key(waiting.id), "created_ms", "1")
        assert await hands.share(ageing="1h") == 1
    else:
        await hands.run(20)
        assert waiting in hands.taken


async def test_jobs_that_no_list_holds_arrive_anew(hands: Hands) -> None:
    jobs = [await hands.submit("a") for _ in range(40)]
    await hands.redis.delete("llmq:arrivals:llm")
    await hands.share()
    await hands.run()
    assert {job.id for job in hands.taken} == {job.id for job in jobs}


async def test_a_job_that_comes_back_goes_ahead_of_those_that_wait(hands: Hands) -> None:
    """It had its turn; its worker was lost, or handed it back."""
    jobs = [await hands.submit("a") for _ in range(30)]
    back = await hands.take()
    assert back == jobs[0]
    await hands.ledger.hand_back(back.id, 1, begun=0, ended=(), call_under_way=False)
    await hands.ledger.announce(back)
    assert await hands.take() == back


async def test_dead_jobs_that_are_replayed_take_their_turns(hands: Hands) -> None:
    dead = [await hands.submit("a") for _ in range(40)]
    for _ in dead:
        job = await hands.take()
        assert job is not None
        await hands.ledger.finish(
            job.id, hands.running.pop(job.id), JobState.FAILED, "{}", attempts=(), dead=True
        )
    hands.taken.clear()
    assert all([await hands.ledger.replay(job.id) for job in dead])
    assert await hands.redis.llen("llm") <= 17, "the rest waits in turn"
    other = await hands.submit("b")
    await hands.share()
    await hands.run()
    assert {job.id for job in hands.taken} == {job.id for job in [*dead, other]}
    assert hands.taken.index(other) <= 20, "another organisation's job does not wait for all of them"


async def test_a_cancelled_job_in_a_backlog_is_passed_over(hands: Hands) -> None:
    jobs = [await hands.submit("a") for _ in range(100)]
    await hands.share()
    for job in jobs[30::2]:
        assert await hands.ledger.cancel(job.id, by="caller", meta="{}") == "cancelled"
    await hands.run()
    assert {job.id for job in hands.taken} == {job.id for job in jobs[:30] + jobs[31::2]}


async def test_every_waiting_job_is_in_exactly_one_place(hands: Hands) -> None:
    for number in range(200):
        await hands.submit(f"o{number % 7}", f"g{number % 3}", priority=(0, 3, 6, 9)[number % 4])
        if number % 3 == 0:
            await hands.take()
        if number % 50 == 0:
            await hands.share(ready_window=16)
    places = await hands.places()
    assert all(len(where) == 1 for where in places.values()), places
    assert len(places) == 200


async def test_nothing_is_reckoned_with_any_more_when_all_have_ended(hands: Hands) -> None:
    """Answered, cancelled while they waited in the window, or expired."""
    jobs = [await hands.submit("a", f"g{number % 3}") for number in range(120)]
    await hands.share()
    for job in jobs[16:24]:
        await hands.ledger.cancel(job.id, by="caller", meta="{}")
    for job in jobs[24:32]:
        assert await hands.ledger.conclude(job.id, 0, JobState.EXPIRED, "{}")
    await hands.run()
    now_ms = await hands.ledger.now_ms()
    await hands.ledger.reap(renewed_ms=now_ms, within=timedelta(minutes=1), most=500)
    states = [await hands.redis.hget(keys.job_key(job.id), "state") for job in jobs]
    assert set(states) == {"answered", "cancelled", "expired"}
    left = await hands.redis.hkeys("llmq:vtime:llm:0")
    assert [str(name) for name in left if str(name).startswith("open:")] == []
    assert [key async for key in hands.redis.scan_iter("llmq:charged:*")] == []


async def test_what_agents_may_put_into_arrivals_harms_nobody(hands: Hands) -> None:
    for _ in range(40):
        await hands.submit("a")
    running = await hands.take()
    assert running is not None
    odd = ["-", "", "x" * 100, running.id, "00000000-0000-0000-0000-000000000000"]
    await hands.redis.lpush("llmq:arrivals:llm", *odd)
    await hands.finish(running)
    await hands.run()
    assert len({job.id for job in hands.taken}) == len(hands.taken) == 40


async def test_every_key_of_turns_has_an_end(hands: Hands) -> None:
    for number in range(60):
        await hands.submit("a", f"g{number % 5}")
    await hands.share()
    await hands.take()
    names = ("arrivals", "backlog", "flows", "vtime", "charged", "fair_share")
    found = [key for name in names async for key in hands.redis.scan_iter(f"llmq:{name}*")]
    assert len(found) >= 8
    assert all([await hands.redis.pttl(key) > 0 for key in found])
