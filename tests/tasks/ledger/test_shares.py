"""Who waits, who runs, who got how much, and why a job waits: as operators see the turns."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.views.job_index import JobIndex
from rustic_ai.llm_queue.tasks.ledger.views.shares import ShareRow, Shares, by_org
from rustic_ai.llm_queue.tasks.ledger.views.wait_reason import WaitReason, WaitReasons
from support.workers.turns_kit import Hands

pytestmark = pytest.mark.leaves_keys("llm", "llm*", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


@pytest.fixture
def hands(redis: Redis) -> Hands:
    return Hands(redis)


async def why(hands: Hands, job_id: str) -> WaitReason:
    listed = await JobIndex(hands.redis).job(job_id)
    assert listed.record is not None
    record = listed.record
    return await WaitReasons(hands.redis).of(record)


async def test_every_waiting_and_running_job_is_counted_with_its_guild(hands: Hands) -> None:
    for number in range(300):
        await hands.submit("acme", f"g{number % 2}")
    single = await hands.submit("globex")
    await hands.share()
    running = [await hands.take() for _ in range(5)]
    rows = await Shares(hands.redis).rows("llm")
    assert sum(row.waiting for row in rows) == 301 - len(running)
    assert sum(row.running for row in rows) == len(running)
    assert {(row.org, row.guild) for row in rows} == {("acme", "g0"), ("acme", "g1"), ("globex", "g")}
    acme, globex = by_org(rows)
    assert (acme.org, acme.waiting + acme.running) == ("acme", 300)
    assert (globex.org, globex.waiting + globex.running) == ("globex", 1)
    assert single.owner.org == "globex"


async def test_shares_and_waits_are_those_of_the_latest_minutes(hands: Hands) -> None:
    for org, tokens in (("acme", 300), ("globex", 100)):
        for _ in range(20):
            await hands.submit(org)
            job = await hands.take()
            assert job is not None
            if org == "globex":
                # A minute later than it was submitted, and 40 s of that it waited for a limit.
                started = int(str(await hands.redis.hget(keys.job_key(job.id), "created_ms"))) + 60_000
                await hands.redis.hset(keys.job_key(job.id), "started_ms", str(started))
                await hands.redis.hset(keys.job_key(job.id), "limited_ms", "40000")
            await hands.finish(job, (tokens - 50, 50))
    rows = {row.org: row for row in await Shares(hands.redis).rows("llm")}
    assert (rows["acme"].share, rows["globex"].share) == (0.75, 0.25)
    assert rows["acme"].wait_p95_s < 1
    assert rows["globex"].wait_p95_s == pytest.approx(20, rel=0.2), "waits for limits are not for workers"


async def test_tenants_cannot_make_guilds_without_end(hands: Hands) -> None:
    await hands.submit("acme")
    job = await hands.take()
    assert job is not None
    seconds, _ = await hands.redis.time()
    for minute in (seconds // 60, seconds // 60 + 1):
        many = [word for number in range(4_000) for word in (f'tokens ["x","{number}"]', "1")]
        await hands.redis.execute_command("HSET", keys.flow_minute_key(minute), *many)
        await hands.redis.expire(keys.flow_minute_key(minute), 600)
    await hands.finish(job, (600, 400))
    rows = {(row.org, row.guild): row for row in await Shares(hands.redis).rows("llm")}
    assert ("acme", "g") not in rows
    assert rows["other", "other"].share > 0.1


async def test_what_may_be_written_into_the_minutes_hides_nobody(hands: Hands) -> None:
    await hands.submit("acme")
    job = await hands.take()
    assert job is not None
    await hands.finish(job, (10, 10))
    (key,) = [key async for key in hands.redis.scan_iter("llmq:minute_of_guilds:*")]
    odd = {"tokens [1]": "5", 'wait:9999 ["a","b"]': "1", 'tokens ["a","b"]': "-4", "x": "y", "tokens {": "1"}
    for name, value in odd.items():
        await hands.redis.hset(key, name, value)
    await hands.redis.hset(keys.job_key(job.id), "owner", "[" * 5_000)
    assert [(row.org, row.share) for row in await Shares(hands.redis).rows("llm")] == [("acme", 1.0)]


async def test_why_a_job_waits(hands: Hands) -> None:
    jobs = [await hands.submit("acme") for _ in range(200)]
    assert (await why(hands, jobs[0].id)).place == "window"
    assert (await why(hands, jobs[3].id)).ahead == 3
    arrived = await why(hands, jobs[-1].id)
    assert arrived.place == "arrivals"
    await hands.share()
    reason = await why(hands, jobs[-1].id)
    assert reason.place == "backlog"
    assert reason.ahead is not None
    # Those of the same millisecond are not before it.
    assert 100 < reason.ahead <= 199 - await hands.redis.llen("llm")
    assert "number 1 of the 1 that take turns" in reason.explanation
    job = await hands.take()
    assert job is not None
    assert (await why(hands, job.id)).explanation == "it does not wait: worker w runs it"
    await hands.finish(job)
    assert (await why(hands, job.id)).explanation == "it has ended: answered"


async def test_a_job_in_a_pause_says_until_when(hands: Hands) -> None:
    await hands.submit("acme")
    job = await hands.take()
    assert job is not None
    await hands.ledger.limits.pause(job.id, hands.running[job.id], timedelta(minutes=1), begun=1, ended=())
    reason = await why(hands, job.id)
    assert reason.place == "retry"
    seconds, _ = await hands.redis.time()
    assert reason.until == pytest.approx(seconds + 60, abs=5)


def test_an_organisations_wait_is_its_slowest_guilds() -> None:
    rows = [ShareRow("a", "g", 1, 2, 0.25, 3.0), ShareRow("a", "h", 4, 0, 0.5, 1.0)]
    assert by_org(rows) == [ShareRow("a", "", 5, 2, 0.75, 3.0)]
