"""Whole answers that take too long to be read on the event loop, where all other calls would wait for it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import EmbeddingCall, Endpoint
from rustic_ai.llm_queue.tasks.vectors import MOST_DIMENSIONS, unpack_vectors
from rustic_ai.llm_queue.worker.provider.failures.kinds import MalformedAnswer
from support.providers.provider import ProviderStub, Step
from support.providers.raw_answers import whole
from support.workers.attempt_kit import MODELS, Bench
from support.workers.loop_watchdog import loop_watchdog

CALLS = 20_000
ARGUMENTS = {"city": "Zürich"}
FUNCTION = {"name": "look", "arguments": json.dumps(ARGUMENTS)}


def of_openai(calls: int) -> str:
    made = [{"id": f"call_{at}", "type": "function", "function": FUNCTION} for at in range(calls)]
    return whole("so", message={"tool_calls": made})


def of_anthropic(calls: int) -> str:
    made = [
        {"type": "tool_use", "id": f"call_{at}", "name": "look", "input": ARGUMENTS} for at in range(calls)
    ]
    return json.dumps({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "so"}, *made], "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    })  # fmt: skip


def of_gemini(calls: int) -> str:
    made = [{"functionCall": {"name": "look", "args": ARGUMENTS}}] * calls
    content = {"role": "model", "parts": [{"text": "so"}, *made]}
    return json.dumps({
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    })  # fmt: skip


WAYS: dict[str, tuple[str, Callable[[int], str], dict[str, Any]]] = {
    "openai": (MODELS["openai"], of_openai, {}),
    "openai by its SDK": (MODELS["openai"], of_openai, {}),
    "azure": (MODELS["azure"], of_openai, {}),
    "anthropic": (MODELS["anthropic"], of_anthropic, {}),
    "anthropic by acompletion": (MODELS["anthropic"], of_anthropic, {"top_k": 5}),
    "gemini": (MODELS["gemini"], of_gemini, {}),
    "huggingface": (MODELS["huggingface"], of_openai, {}),
}


@pytest.fixture
def bench(provider: ProviderStub, provider_keys: None) -> Bench:
    return Bench.over(provider)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_of_many_values_holds_up_nobody(
    bench: Bench, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made, params = WAYS[way]
    if "SDK" in way:
        monkeypatch.setenv("OPENAI_PROJECT_ID", "only the SDK reads it")
    bench.stub.plan("once", Step(raw=made(1)))
    bench.stub.plan("many", Step(raw=made(CALLS), times=None))
    small = await bench.run("hello #once", model, max_retries=0, **params)
    # What is done once in a process is not the answer's fault.
    await bench.run("hello #many", model, max_retries=0, **params)
    async with loop_watchdog():
        answer = await bench.run("hello #many", model, max_retries=0, **params)
    assert len(bench.stub.requests("many")) == 2, "what is read again is not asked for again"
    message, of_one = (one.response["choices"][0]["message"] for one in (answer, small))
    calls = message["tool_calls"]
    assert len(calls) == CALLS
    assert {json.dumps(call["function"], sort_keys=True) for call in calls} == {
        json.dumps(of_one["tool_calls"][0]["function"], sort_keys=True)
    }
    assert json.loads(calls[-1]["function"]["arguments"]) == ARGUMENTS
    assert {**message, "tool_calls": []} == {**of_one, "tool_calls": []}
    assert answer.usage == small.usage
    assert answer.response["choices"][0]["finish_reason"] == "tool_calls"


async def test_what_no_model_writes_holds_up_nobody(bench: Bench) -> None:
    # Below every limit of bytes: most of its time goes into values.
    raw = whole("so", message={"odd": [{}] * 120_000})
    bench.stub.plan("odd", Step(raw=raw, times=None))
    await bench.run("hello #odd")
    async with loop_watchdog():
        answer = await bench.run("hello #odd")
    assert answer.response["choices"][0]["message"]["content"] == "so"


def vectors(count: int, numbers: Sequence[float]) -> str:
    data: list[Any] = [
        {"object": "embedding", "index": at, "embedding": list(numbers)} for at in range(count)
    ]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json.dumps({"object": "list", "model": "m", "data": data, "usage": usage})


@pytest.mark.parametrize("model", ["openai/text-embedding-3-small", "hosted_vllm/m"])
async def test_vectors_as_numbers_hold_up_nobody(bench: Bench, model: str) -> None:
    # Many servers know no base64.
    bench.stub.plan("*", Step(raw=vectors(32, [0.5] * 16_384), times=None))
    endpoint = Endpoint(api_key="sk-of-the-test", base_url=bench.stub.base_url("openai"))
    call = EmbeddingCall(model=model, texts=tuple(f"text {at}" for at in range(32)), endpoint=endpoint)
    target = await bench.provider.target(call, model)
    await bench.provider.complete(call, target, org="org")
    async with loop_watchdog():
        completion = await bench.provider.complete(call, target, org="org")
    assert unpack_vectors(completion.response, count=32) == [[0.5] * 16_384] * 32
    assert len(bench.stub.requests()) == 2


async def test_a_vector_that_nobody_could_read_is_no_answer(bench: Bench) -> None:
    bench.stub.plan("*", Step(raw=vectors(1, [1] * (MOST_DIMENSIONS + 1)), times=None))
    endpoint = Endpoint(api_key="sk-of-the-test", base_url=bench.stub.base_url("openai"))
    call = EmbeddingCall(model="openai/text-embedding-3-small", texts=("text",), endpoint=endpoint)
    target = await bench.provider.target(call, call.model)
    with pytest.raises(MalformedAnswer, match="numbers"):
        await bench.provider.complete(call, target, org="org")
