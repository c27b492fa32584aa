"""The books of what jobs cost: exact, once for each job, bounded, and there after a restart."""

import json
import math
import random
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import CallKind
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.books import Books, CostRow
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import FinishVerdict, Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.vectors import floats_of, pack_vectors
from support.servers.valkey import ValkeyServer

#: No worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:*")

OWNER = Owner(org="acme", guild="support", agent="helper")
LEASE, TTL = timedelta(seconds=15), timedelta(minutes=5)
Client = Callable[[ValkeyServer], Redis]


@pytest.fixture
async def connect() -> AsyncIterator[Client]:
    clients: list[Redis] = []

    def client(server: ValkeyServer) -> Redis:
        clients.append(Redis.from_url(server.url, decode_responses=True))
        return clients[-1]

    yield client
    for one in clients:
        await one.aclose()


@pytest.fixture
def redis(valkey: ValkeyServer, connect: Client) -> Redis:
    return connect(valkey)


def answered(cost_usd: float | None, tokens: tuple[int, int] = (0, 0), model: str = "gpt-4") -> Answered:
    account = Account(cost_usd=cost_usd, prompt_tokens=tokens[0], completion_tokens=tokens[1])
    return Answered(account=account, model=model, response={})


async def running_job(ledger: Ledger, owner: Owner = OWNER) -> Job:
    job = Job(
        id=str(uuid.uuid4()),
        owner=owner,
        model="gpt-4",
        queue="llm",
        timeout_ms=60_000,
        request="plain:{}",
        fingerprints="plain:1",
    )
    await ledger.submit(job)
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    assert claim.verdict == "granted"
    return job


async def finish(ledger: Ledger, job: Job, outcome: Answered, epoch: int = 1) -> FinishVerdict:
    charge = Charge.of(job.owner, outcome)
    return await ledger.finish(job.id, epoch, JobState.ANSWERED, "{}", attempts=(), charge=charge)


async def todays(redis: Redis) -> list[CostRow]:
    costs = Books(redis)
    today = await costs.today()
    return await costs.rows(today - timedelta(days=1), today)


async def test_the_sum_of_the_books_is_the_sum_of_the_responses_costs(redis: Redis) -> None:
    ledger, dice = Ledger(redis, result_ttl=TTL), random.Random(7)
    told = Decimal(0)
    for _ in range(60):
        owner = Owner(org=dice.choice("ab"), guild=dice.choice("cd"), agent=dice.choice('e"ü'))
        # As LiteLLM computes it: prices of a token times tokens, in floating point.
        cost = dice.randrange(100_000) * 1.5e-7 + dice.randrange(100_000) * 3.75e-8 + dice.random() * 1e-13
        outcome = answered(cost, (3, 4), model=dice.choice(["gpt-4", "claude"]))
        assert outcome.account.cost_usd is not None
        told += Decimal(repr(outcome.account.cost_usd))
        await finish(ledger, await running_job(ledger, owner), outcome)
    rows = await todays(redis)
    assert sum(row.cost_usd for row in rows) == told
    assert (sum(row.jobs for row in rows), sum(row.completion_tokens for row in rows)) == (60, 240)
    assert {row.agent for row in rows} == {"e", '"', "ü"}


async def test_a_job_is_booked_once_and_only_by_who_holds_it(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    job = await running_job(ledger)
    outcome = answered(0.5, (10, 20))
    assert await finish(ledger, job, outcome, epoch=7) == "stale"
    assert await todays(redis) == []
    assert await finish(ledger, job, outcome) == "done"
    # Sent again, because the reply was lost.
    assert await finish(ledger, job, outcome) == "already"
    (row,) = await todays(redis)
    assert (row.org, row.guild, row.agent, row.model) == ("acme", "support", "helper", "gpt-4")
    assert (row.jobs, row.cost_usd, row.prompt_tokens, row.completion_tokens) == (1, Decimal("0.5"), 10, 20)


async def test_an_answer_without_a_price_is_a_job_with_tokens(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    await finish(ledger, await running_job(ledger), answered(None, (10, 20)))
    (row,) = await todays(redis)
    assert (row.jobs, row.unpriced, row.cost_usd, row.prompt_tokens) == (1, 1, Decimal(0), 10)


@pytest.mark.parametrize("cost", [-0.01, math.nan, math.inf, -math.inf, 1e6, 10**320])
async def test_a_cost_that_is_no_amount_is_unknown_and_in_no_sum(redis: Redis, cost: float) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    account = Account.model_validate_json(f'{{"cost_usd": {json.dumps(cost)}, "prompt_tokens": 10}}')
    assert account.cost_usd is None
    await finish(ledger, await running_job(ledger), Answered(account=account, model="gpt-4", response={}))
    (row,) = await todays(redis)
    assert (row.jobs, row.unpriced, row.cost_usd, row.prompt_tokens) == (1, 1, Decimal(0), 10)


async def test_embeddings_have_a_row_of_their_own(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    await finish(ledger, await running_job(ledger), answered(0.5, (10, 20)))
    vectors = pack_vectors([floats_of([1.0, 2.0])])
    embedded = answered(0.25, (7, 0)).model_copy(update={"response": vectors})
    await finish(ledger, await running_job(ledger), embedded)
    rows = {row.kind: row for row in await todays(redis)}
    assert {kind: (row.jobs, row.cost_usd, row.prompt_tokens) for kind, row in rows.items()} == {
        CallKind.CHAT: (1, Decimal("0.5"), 10),
        CallKind.EMBEDDING: (1, Decimal("0.25"), 7),
    }


async def test_vectors_that_were_kept_are_booked_as_savings(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    vectors = pack_vectors([floats_of([1.0, 2.0])])
    partly = answered(0.25, (7, 0)).model_copy(update={"response": vectors})
    partly = partly.model_copy(update={"account": partly.account.model_copy(update={"saved_usd": 0.5})})
    facts = {"saved_usd": 0.75, "cached": "hit", "cost_usd": 0.0}
    wholly = partly.model_copy(update={"account": partly.account.model_copy(update=facts)})
    for outcome in (partly, wholly):
        await finish(ledger, await running_job(ledger), outcome)
    (row,) = await todays(redis)
    assert (row.kind, row.jobs, row.cached) == (CallKind.EMBEDDING, 2, 1)
    assert (row.cost_usd, row.saved_usd, row.prompt_tokens) == (Decimal("0.25"), Decimal("1.25"), 7)


def test_what_is_booked() -> None:
    attempt = AttemptRecord(number=1, epoch=1, model="gpt-4", status="cancelled")
    cut = Cancelled(account=Account(attempts=(attempt,), prompt_tokens=5))
    assert Charge.of(OWNER, cut) == Charge(OWNER, "gpt-4", None, 5, 0)
    assert Charge.of(OWNER, Cancelled(account=Account(attempts=(attempt,)))) is None, "nothing is known of it"
    assert Charge.of(OWNER, answered(float("inf"))) == Charge(OWNER, "gpt-4", None, 0, 0)


async def test_the_books_have_an_end(redis: Redis) -> None:
    await finish(ledger := Ledger(redis, result_ttl=TTL), await running_job(ledger), answered(1.0))
    books = [key async for key in redis.scan_iter("llmq:costs:*")]
    assert len(books) == 2
    for key in books:
        assert timedelta(days=400) < timedelta(seconds=await redis.ttl(key)) <= timedelta(days=401)


async def test_rows_without_room_are_booked_under_other(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    await finish(ledger, await running_job(ledger), answered(0.25))
    today = await Books(redis).today()
    index = keys.costs_key((today - today.fromordinal(719163)).days)
    assert await redis.hgetall(index) == {"": "1", "acme": "1"}
    await redis.hset(index, mapping={"acme": 10_000})
    for guild in ("g1", "g2", "support"):
        owner = Owner(org="acme", guild=guild, agent="helper")
        await finish(ledger, await running_job(ledger, owner), answered(0.25))
    await finish(ledger, await running_job(ledger, Owner(org="b", guild="g", agent="a")), answered(0.25))
    sums = {(row.org, row.guild): (row.jobs, row.cost_usd) for row in await todays(redis)}
    assert sums == {
        ("acme", "support"): (2, Decimal("0.5")),
        ("acme", "other"): (2, Decimal("0.5")),
        ("b", "g"): (1, Decimal("0.25")),
    }, "known rows go on, one organisation does not take another's room, and nothing is lost"
    await redis.hset(index, mapping={f"o{number}": 1 for number in range(500)})
    await finish(ledger, await running_job(ledger, Owner(org="late", guild="g", agent="a")), answered(1.0))
    (late,) = [row for row in await todays(redis) if row.org == "other"]
    assert (late.guild, late.cost_usd) == ("other", Decimal(1))


async def test_books_that_cannot_be_written_keep_no_job_from_ending(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    today = await Books(redis).today()
    for day in range(2):
        await redis.set(keys.costs_key((today - today.fromordinal(719163)).days + day), "not a hash", ex=60)
    job = await running_job(ledger)
    assert await finish(ledger, job, answered(1.0)) == "done"
    record: Any = await ledger.record(job.id)
    assert record.state is JobState.ANSWERED


async def test_the_books_survive_a_restart(own_valkey: ValkeyServer, connect: Client) -> None:
    ledger = Ledger(connect(own_valkey), result_ttl=TTL)
    await finish(ledger, await running_job(ledger), answered(0.125))
    own_valkey.restart()
    (row,) = await todays(connect(own_valkey))
    assert row.cost_usd == Decimal("0.125")


async def test_the_pace_of_each_model(redis: Redis) -> None:
    ledger = Ledger(redis, result_ttl=TTL)
    for model, cost in (("gpt-4", 0.5), ("gpt-4", 0.25), ("claude", None)):
        await finish(ledger, await running_job(ledger), answered(cost, (10, 20), model=model))
    pace = await Books(redis).last_minute()
    assert set(pace) == {"claude", "gpt-4"}
    # Of the minute before this one and what has passed of this one.
    assert 1 <= pace["gpt-4"].jobs <= 2
    assert pace["gpt-4"].cost_usd == pytest.approx(pace["gpt-4"].jobs * 0.375)
    assert pace["claude"].tokens == pytest.approx(pace["claude"].jobs * 30)
    assert pace["claude"].cost_usd == 0
