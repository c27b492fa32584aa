"""What a worker has learned of a model's tokens is where the next worker begins."""

from __future__ import annotations

import pytest

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.providers.provider import ProviderStub, Step
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:*", reason="wake-ups that nobody takes")

MODEL = "openai/gpt-4o"
CALL = CompletionCall(model=MODEL, params={"messages": []})
TOKENS = {"limits": [{"name": "tokens", "itpm": 1_000_000_000, "otpm": 1_000_000_000}]}


async def test_the_next_worker_begins_with_what_another_has_learned(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", Step(prompt_tokens=200, completion_tokens=300, times=None))
    first, second = make_kit(**TOKENS), make_kit(**TOKENS)
    for _ in range(20):
        assert isinstance(await first.run(await first.submit("#q", estimated_tokens=100)), Answered)
    unknown = second.limits.estimates.estimate(CALL, MODEL, 100)
    assert (unknown.input, unknown.output_expected) == (100, 1_024)
    assert isinstance(await second.run(await second.submit("#q", estimated_tokens=100)), Answered)
    learned = second.limits.estimates.estimate(CALL, MODEL, 100)
    assert 180 <= learned.input <= 200
    assert learned.output_expected == 300
    assert await first.redis.ttl(keys.LEARNED) > 0


@pytest.mark.parametrize("text", ["nonsense", "[1]", "[-1, 5]", "[1e999, 5]", '["a", {}]', "[NaN, 1]"])
async def test_what_makes_no_sense_is_passed_over(make_kit: MakeKit, text: str) -> None:
    kit = make_kit(**TOKENS)
    await kit.redis.hset(keys.LEARNED, MODEL, text)
    await kit.redis.expire(keys.LEARNED, 60)
    await kit.limits.estimates.begin(MODEL)
    assert kit.limits.estimates.estimate(CALL, MODEL, 100).input == 100


async def test_where_no_limit_counts_tokens_nothing_is_written(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    kit = make_kit(limits=[{"name": "calls", "max_parallel_requests": 5}])
    for _ in range(20):
        assert isinstance(await kit.run(await kit.submit("#q")), Answered)
    assert not await kit.redis.exists(keys.LEARNED)
