"""Where streams by the short way are other than whole answers, or than by LiteLLM's own way."""

import json
from typing import Any

import pytest

from support.providers.provider import Step
from support.providers.provider_plan import Fault
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content
from support.workers.both_ways import ANSWERS, BREAKS, FAILURES, SDKS_ENDS, assert_broken_alike, both_ends
from support.workers.loop_watchdog import loop_watchdog

ASKED = {
    "deepseek": "deepseek/deepseek-chat",
    **{wire: MODELS[wire] for wire in ("openai", "anthropic", "gemini", "azure")},
}
#: What the short way keeps, and LiteLLM's does not.
BETTER = {"no room for a word", "an object of another type"}
EVENTS = {"content-type": "text/event-stream"}
_OF_TEXT = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}
_OF_SOUND = {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}]}
_COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
GEMINIS_COUNTS: dict[str, dict[str, Any]] = {
    "none": {},
    "plain": _COUNTS,
    "of text": {**_COUNTS, **_OF_TEXT},
    "of sound": {**_COUNTS, **_OF_SOUND},
    "thoughts beside": {**_COUNTS, "thoughtsTokenCount": 3, "totalTokenCount": 10},
    "thoughts within": {**_COUNTS, "thoughtsTokenCount": 1},
    "kept": {**_COUNTS, **_OF_TEXT, "cachedContentTokenCount": 3},
    "the prompt alone": {"promptTokenCount": 5, "totalTokenCount": 5},
    "odd sums": {**_COUNTS, "totalTokenCount": 9},
    "odd types": {**_COUNTS, "candidatesTokenCount": "2", "promptTokenCount": 5.0},
}


def _of_anthropic() -> str:
    """A stream of Anthropic's, of which one event has very many values."""
    quoted = [{"type": "char_location", "cited_text": "x"}] * 20_000
    said = {"type": "text_delta", "text": "42"}
    events = [
        {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": said, "citations": quoted},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def _of_gemini(counts: dict[str, Any], *, grounded: int = 0) -> str:
    """A stream of Gemini's, whose events have these counts, and the first so many grounds."""
    spoken: list[dict[str, Any]] = [
        {"content": {"role": "model", "parts": [{"text": "6 by 7 "}]}, "index": 0},
        {"content": {"parts": [{"text": "4"}, {"text": "2"}]}},
        {"content": {"role": "model", "parts": [{"text": "."}]}, "index": 0, "finishReason": "STOP"},
    ]
    if grounded:
        spoken[0]["groundingMetadata"] = {"webSearchQueries": ["x"] * grounded}
    usage = {"usageMetadata": counts} if counts else {}
    events = [
        {"candidates": [one], "modelVersion": "gemini-2.5", "responseId": "r", **usage} for one in spoken
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


@pytest.fixture(params=[*ASKED.values()], ids=[*ASKED])
def asked_model(request: pytest.FixtureRequest) -> str:
    """A model of each way in which LiteLLM reads streams."""
    return str(request.param)


@pytest.fixture
def both_ways(bench: Bench, asked_model: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask for the same stream twice, the short way and LiteLLM's own; requests, ends and chunks of both."""

    async def ask(step: Step) -> Any:
        sdk = False if asked_model.startswith(("openai/", "azure/")) else None
        return await both_ends(monkeypatch, lambda: bench, asked_model, step, streamed=True, sdk=sdk)

    return ask


@pytest.mark.parametrize("asked_model", [MODELS["gemini"]], indirect=True)
@pytest.mark.parametrize("name", GEMINIS_COUNTS)
async def test_geminis_counts_are_those_that_litellm_makes_of_them(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(Step(raw=_of_gemini(GEMINIS_COUNTS[name]), headers=EVENTS))
    assert lean == whole
    assert lean[1]["choices"][0]["message"]["content"] == "6 by 7 42."


@pytest.mark.parametrize("name", sorted(SDKS_ENDS.keys() - BETTER))
async def test_an_odd_end_is_the_one_that_the_sdk_makes_of_it(
    both_ways: Any, name: str, asked_model: str
) -> None:
    lean, whole = await both_ways(SDKS_ENDS[name])
    if asked_model == MODELS["gemini"]:
        # LiteLLM tells of these in Python's words about its own code.
        for _, (envelope, _), *_ in (lean, whole):
            del envelope["message"]
    assert lean == whole


@pytest.mark.parametrize("asked_model", [MODELS["openai"], MODELS["azure"]], indirect=True)
async def test_a_prompt_that_left_no_room_for_an_answer_is_counted(both_ways: Any) -> None:
    lean, whole = await both_ways(SDKS_ENDS["no room for a word"])
    assert lean[1].pop("usage") == {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}
    assert lean[:2] == whole[:2]


@pytest.mark.parametrize("asked_model", [MODELS["openai"], MODELS["azure"], ASKED["deepseek"]], indirect=True)
async def test_a_whole_answer_in_the_place_of_a_stream_is_kept(bench: Bench, asked_model: str) -> None:
    bench.stub.plan("*", SDKS_ENDS["an object of another type"])
    sink = NotedSink()
    answer = await bench.run("ask #whole", asked_model, sink=sink)
    assert content(answer) == sink.text() == "1"
    assert len(bench.stub.requests("whole")) == 1


@pytest.fixture
def other_ways(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stream of a provider that has no short way, its events read once, and by LiteLLM."""

    async def ask(model: str, step: Step) -> Any:
        return await both_ends(
            monkeypatch, lambda: bench, model, step, short="whole", sdk=None, streamed=True
        )

    return ask


@pytest.mark.parametrize("model", [MODELS["huggingface"], MODELS["cohere"]])
@pytest.mark.parametrize("name", [*ANSWERS, *FAILURES])
async def test_other_providers_events_are_read_as_by_litellm(other_ways: Any, model: str, name: str) -> None:
    read, litellms = await other_ways(model, (ANSWERS | FAILURES)[name])
    assert read == litellms


@pytest.mark.parametrize("model", [MODELS["huggingface"], MODELS["cohere"]])
@pytest.mark.parametrize("fault", BREAKS)
async def test_other_providers_broken_streams_fail_alike(other_ways: Any, model: str, fault: Fault) -> None:
    assert_broken_alike(await other_ways(model, Step(fault=fault, text="secret words", times=None)))


@pytest.mark.parametrize("model", [*ASKED.values(), MODELS["huggingface"]])
async def test_an_event_of_many_values_holds_up_nobody(bench: Bench, model: str) -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": "42"}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": [entry] * 20_000}
    of_others = {"anthropic": _of_anthropic(), "gemini": _of_gemini(_COUNTS, grounded=40_000)}
    raw = of_others.get(model.partition("/")[0], f"data: {json.dumps({'choices': [choice]})}\n\n")
    bench.stub.plan("long", Step(raw=raw, headers=EVENTS, times=None))
    # What is done once in a process is not the answer's fault.
    await bench.run("ask #short", model, sink=NotedSink())
    async with loop_watchdog():
        answer = await bench.run("ask #long", model, sink=NotedSink())
    assert content(answer).endswith(("42", "42."))
