"""What a tenant's own server reports of its usage goes into no book."""

from datetime import timedelta

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.ledger.books import Books
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.providers.provider import Step
from support.providers.raw_answers import whole
from support.workers.job_kit import JobKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:dead")


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
    own = Endpoint.model_validate({"base_url": kit.stub.base_url("openai"), "api_key": "sk-of-the-job"})
    outcome = await kit.run(await kit.submit("why #own", endpoint=own))
    assert isinstance(outcome, Answered)
    assert await booked() == before
    await kit.run(await kit.submit("why #ours"))
    assert (await booked())[1] == before[1] + 1, "what comes after is booked again"
