"""What a tenant's own server reports is booked apart, and concerns nobody else."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.books import Books, CostRow
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from support.providers.provider import Step
from support.providers.raw_answers import whole
from support.workers.job_kit import MODEL, JobKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:dead")


def own_server(kit: JobKit) -> Endpoint:
    return Endpoint.model_validate({"base_url": kit.stub.base_url("openai"), "api_key": "sk-of-the-job"})


@pytest.mark.parametrize("tokens", [-10_000_000, 2**63 - 1, 5_000_000])
async def test_the_books_of_the_day_are_what_they_were(kit: JobKit, tokens: int) -> None:
    async def booked() -> tuple[float, int]:
        books = Books(kit.redis)
        today = await books.today()
        rows = await books.rows(today - timedelta(days=1), today)
        return float(sum(row.cost_usd for row in rows)), sum(row.jobs for row in rows)

    kit.stub.plan("ours", Step(prompt_tokens=11, completion_tokens=3, times=None))
    await kit.run(await kit.submit("why #ours"))
    before = await booked()
    assert before[1] >= 1, "a call of ours is booked"
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": tokens}
    kit.stub.plan("own", Step(raw=whole(usage=usage)))
    outcome = await kit.run(await kit.submit("why #own", endpoint=own_server(kit)))
    assert isinstance(outcome, Answered)
    assert await booked() == before
    await kit.run(await kit.submit("why #ours"))
    assert (await booked())[1] == before[1] + 1, "what comes after is booked again"


async def _booked_apart(kit: JobKit) -> list[CostRow]:
    books = Books(kit.redis)
    today = await books.today()
    return await books.rows(today - timedelta(days=1), today, own_endpoints=True)


async def test_what_it_claims_is_booked_apart_and_bounded(kit: JobKit) -> None:
    usage = {"prompt_tokens": 50_000_000, "completion_tokens": 5_000, "total_tokens": 50_005_000}
    kit.stub.plan("own", Step(raw=whole(usage=usage)))
    await kit.run(
        await kit.submit("why #own", endpoint=own_server(kit), owner=Owner(org="x", guild="g", agent="a"))
    )
    (row,) = [row for row in await _booked_apart(kit) if row.org == "x"]
    assert (row.model, row.jobs, row.unpriced, row.cost_usd) == (MODEL, 1, 0, Decimal(0))
    assert (row.prompt_tokens, row.completion_tokens) == (10_000_000, 5_000)


@pytest.mark.parametrize("refusal", [Step(status=529), Step(status=503, retry_after_s=3600.0)])
async def test_its_trouble_closes_the_model_to_nobody(kit: JobKit, refusal: Step) -> None:
    before = await kit.redis.zcard(keys.CLOSED)
    kit.stub.plan("own", refusal.model_copy(update={"times": None}))
    await kit.run(await kit.submit("why #own", endpoint=own_server(kit), max_retries=0))
    assert await kit.redis.zcard(keys.CLOSED) == before
    ours = await asyncio.wait_for(kit.run(await kit.submit("why #ours")), 10)
    assert isinstance(ours, Answered)


@pytest.mark.parametrize("tokens", [2**52, 5_000_000])
async def test_it_teaches_nothing_of_what_calls_of_the_model_take(kit: JobKit, tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}
    kit.stub.plan("own", Step(raw=whole(usage=usage), times=None))
    for _ in range(20):
        await kit.run(await kit.submit("why #own", endpoint=own_server(kit)))
    execution = kit.execution(await kit.submit("why #ours"))
    assert isinstance(await kit.executor.execute(execution), Answered)
    assert execution.call is not None
    reckoned = kit.limits.estimates.estimate(execution.call, MODEL, 10)
    assert reckoned.input <= 40
    assert reckoned.output_expected <= 10_000
