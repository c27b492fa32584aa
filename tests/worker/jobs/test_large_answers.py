"""Answers of many megabytes, whose reading, sealing and opening holds up no other call."""

import asyncio
import json
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver.client.outcomes import Outcomes
from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.json_weight import weighs_more
from rustic_ai.llm_queue.tasks.outcome import Answered, Outcome
from rustic_ai.llm_queue.tasks.reuse.options import ReuseOptions
from support.providers.provider import Step
from support.providers.raw_answers import chunk, stream, whole
from support.workers.attempt_kit import MODELS
from support.workers.job_kit import OWNER, JobKit
from support.workers.loop_watchdog import loop_watchdog
from worker.jobs.conftest import MakeKit

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


def of_gemini(*parts: dict[str, Any], **fields: Any) -> str:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **fields}
    return json.dumps({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}})


END = chunk({}, "stop")
CALL = {"functionCall": {"name": "f", "args": {}}}
STREAMS = {
    "many events": (MODELS["openai"], stream(*[chunk({"content": "x"})] * 20_000, END)),
    "many events by LiteLLM": (MODELS["huggingface"], stream(*[chunk({"content": "x"})] * 8_000, END)),
    "many values": (MODELS["openai"], stream(chunk({"content": "x", "odd": [0] * 160_000}), END)),
    "many values by LiteLLM": (
        MODELS["huggingface"],
        stream(chunk({"content": "x", "odd": [0] * 160_000}), END),
    ),
    "many calls": (
        MODELS["gemini"],
        stream(of_gemini({"text": "x"}, *[CALL] * 4_000), of_gemini({"text": "x"}, finishReason="STOP")),
    ),
}


@pytest.mark.parametrize("case", STREAMS)
async def test_a_stream_that_comes_all_at_once_holds_up_nobody(kit: JobKit, case: str) -> None:
    model, raw = STREAMS[case]
    kit.stub.plan("big", Step(raw=raw, times=None))
    await kit.run(await kit.submit("why #big", stream=True, model=model))
    job = await kit.submit("why #big", stream=True, model=model)
    async with loop_watchdog():
        outcome = await kit.run(job)
    assert content(outcome).startswith("x")
    assert len(kit.stub.requests("big")) == 2


@pytest.mark.parametrize("largest", [256_000, 20_000_000])
async def test_a_large_answer_that_equal_calls_share_holds_up_nobody(make_kit: MakeKit, largest: int) -> None:
    kit = make_kit(cache={"max_bytes": largest})
    kit.stub.plan("big", Step(raw=whole(WORDS), hold=True))
    await kit.run(await kit.submit("why #small"))
    asked = ReuseOptions(single_flight=True, cache_ttl_s=60)
    leader, *followers = [await kit.submit("why #big", reuse=asked) for _ in range(4)]
    _, running = kit.start(leader)
    await asyncio.to_thread(kit.stub.wait_for_requests, 1, "big")
    for job in followers:
        assert await kit.run(job) is None, "it waits"
    async with loop_watchdog():
        kit.stub.release("big")
        assert content(await running) == WORDS
    for job in followers:
        assert content(await kit.result(job)) == WORDS
    again = await kit.submit("why #big", reuse=asked)
    async with loop_watchdog():
        outcome = await kit.run(again)
    assert outcome is not None
    assert (outcome.account.cached == "hit") == (largest > len(WORDS))


async def test_2048_vectors_that_are_kept_hold_up_nobody(kit: JobKit) -> None:
    call = EmbeddingCall(
        model="openai/text-embedding-3-large",
        texts=tuple(f"text {at}" for at in range(2_048)),
        params={"dimensions": 1_536},
        reuse=ReuseOptions(cache_ttl_s=60),
    )
    await kit.run(await kit.submit_call(call.model_copy(update={"texts": ("one",)})))
    outcomes = []
    for _ in range(2):
        job = await kit.submit_call(call)
        async with loop_watchdog():
            outcomes.append(await kit.run(job))
    first, again = (one for one in outcomes if isinstance(one, Answered))
    assert (first.account.cached, again.account.cached) == (None, "hit")
    assert first.response["vectors"] == again.response["vectors"]


def test_weights_are_of_characters_and_values() -> None:
    assert weighs_more({"a": ["x" * 6, "y" * 5]}, 10)
    assert weighs_more([[0.5] * 11], 10)
    assert not weighs_more({"a": ["x" * 3, 1, None]}, 10)
