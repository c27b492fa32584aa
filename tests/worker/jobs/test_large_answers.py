"""Answers of many megabytes, whose reading, sealing and opening holds up no other call."""

import pytest

from rustic_ai.llm_queue.resolver.client.outcomes import Outcomes
from rustic_ai.llm_queue.tasks.json_weight import weighs_more
from rustic_ai.llm_queue.tasks.outcome import Answered, Outcome
from support.providers.provider import Step
from support.providers.raw_answers import whole
from support.workers.job_kit import OWNER, JobKit
from support.workers.loop_watchdog import loop_watchdog

pytestmark = pytest.mark.leaves_keys("llm")

WORDS = "word " * 3_000_000
TEXTS = {"plain": (WORDS, WORDS), "half a character": (WORDS + "\udcaf", WORDS + "\ufffd")}


def content(outcome: Outcome | None) -> str:
    assert isinstance(outcome, Answered)
    text: str = outcome.response["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("case", TEXTS)
async def test_an_answer_of_15_mb_holds_up_nobody(kit: JobKit, case: str) -> None:
    sent, got = TEXTS[case]
    kit.stub.plan("big", Step(raw=whole(sent), times=None))
    # What is done once in a process is not the answer's fault.
    await kit.run(await kit.submit("why #small"))
    job = await kit.submit("why #big")
    async with loop_watchdog():
        outcome = await kit.run(job)
    assert content(outcome) == got
    outcomes = Outcomes(kit.redis, kit.sealer, redis_timeout_s=30)
    async with loop_watchdog():
        read = await outcomes.now(job.id, OWNER)
    assert content(read) == got
    assert len(kit.stub.requests("big")) == 1


def test_weights_are_of_characters_and_values() -> None:
    assert weighs_more({"a": ["x" * 6, "y" * 5]}, 10)
    assert weighs_more([[0.5] * 11], 10)
    assert not weighs_more({"a": ["x" * 3, 1, None]}, 10)
