"""What comes beside the text of an answer costs neither the text nor a second POST."""

import json
import math
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.outcome import OUTCOME, Account, Answered
from rustic_ai.llm_queue.worker.attempts.answer import Answer
from support.providers.provider import Step
from support.providers.raw_answers import chunk, stream, told, whole
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content, kinds

WAYS = ("fast", "sdk", "streamed", "huggingface", "huggingface streamed")


async def ask(bench: Bench, way: str, whole_body: str, stream_body: str, **how: Any) -> Answer:
    """Ask once, in one of the ways in which LiteLLM reads OpenAI's form, and store the answer."""
    streamed = way.endswith("streamed")
    model = MODELS["huggingface" if way.startswith("huggingface") else "openai"]
    bench.stub.plan("odd", Step(raw=stream_body if streamed else whole_body))
    on = Bench.over(bench.stub, fast_path="off") if way == "sdk" else bench
    answer = await on.run("hello #odd", model, sink=NotedSink() if streamed else None, **how)
    assert len(bench.stub.requests("odd")) == 1
    assert kinds(answer) == ["ok"]
    stored = Answered(account=Account(), model=answer.model, response=answer.response).model_dump_json()
    read = OUTCOME.validate_json(stored)
    assert isinstance(read, Answered)
    assert read.response == answer.response
    return answer


HALVES = {
    "a low half": ("a \udcaf b", "a \ufffd b"),
    "a high half": ("a \ud83d b", "a \ufffd b"),
    "at the end": ("ab\ud83d", "ab\ufffd"),
    "a pair": ("a\ud83d\ude42b", "a\U0001f642b"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HALVES)
async def test_half_a_character_is_replaced(bench: Bench, way: str, name: str) -> None:
    given, right = HALVES[name]
    answer = await ask(bench, way, whole(given), told(given))
    assert content(answer) == right


@pytest.mark.parametrize("way", WAYS)
async def test_half_a_character_in_a_tools_arguments_is_replaced(bench: Bench, way: str) -> None:
    call = {
        "index": 0,
        "id": "c\udcaf",
        "type": "function",
        "function": {"name": "f", "arguments": '"\udcaf"'},
    }
    answer = await ask(
        bench,
        way,
        whole(None, message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"}),
        stream(chunk({"tool_calls": [call]}), chunk({}, "tool_calls")),
    )
    (made,) = answer.response["choices"][0]["message"]["tool_calls"]
    assert (made["id"], made["function"]["arguments"]) == ("c\ufffd", '"\ufffd"')


@pytest.mark.parametrize("name", ["openai", "huggingface"])
async def test_a_character_in_two_deltas_is_joined(bench: Bench, name: str) -> None:
    bench.stub.plan("two", Step(raw=stream(
        chunk({"content": "a\ud83d"}), chunk({"content": "\ude42b"}), chunk({"content": "\ud83d"}),
        chunk({"content": "c"}), chunk({}, "stop"),
    )))  # fmt: skip
    sink = NotedSink()
    answer = await bench.run("hello #two", MODELS[name], sink=sink)
    assert content(answer) == sink.text() == "a\U0001f642b\ufffdc"


@pytest.mark.parametrize("status", [400, 500])
async def test_half_a_character_in_an_error_is_replaced(bench: Bench, status: int) -> None:
    error = {"message": "no \udcaf", "code": "c\udcaf", "param": "p\udcaf", "type": "t"}
    bench.stub.plan("err", Step(raw=json.dumps({"error": error}), status=status, times=None))
    for sink in (None, NotedSink()):
        envelope = await bench.failure("hello #err", sink=sink, max_retries=0)
        assert envelope.provider_status == status
        assert (envelope.message, envelope.code, envelope.param) == ("no \ufffd", "c\ufffd", "p\ufffd")
        assert type(envelope).model_validate_json(envelope.model_dump_json()) == envelope


USAGES: dict[str, tuple[Any, int | None, int | None]] = {
    "floats": ({"prompt_tokens": 11.25, "completion_tokens": 7.5, "total_tokens": 18.75}, 11, 8),
    "NaN": ({"prompt_tokens": math.nan, "completion_tokens": math.inf, "total_tokens": 1}, None, None),
    "text": ({"prompt_tokens": "11", "completion_tokens": "many", "total_tokens": "?"}, 11, None),
    "lists": ({"prompt_tokens": [1], "completion_tokens": {"a": 1}, "total_tokens": []}, None, None),
    "negative": ({"prompt_tokens": -10_000_000, "completion_tokens": -1, "total_tokens": -5}, None, None),
    "huge": ({"prompt_tokens": 2**63 - 1, "completion_tokens": 10**30, "total_tokens": 1}, None, None),
    "details a list": ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                        "prompt_tokens_details": [], "completion_tokens_details": [1]}, 3, 2),
    "details odd": ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                     "prompt_tokens_details": {"cached_tokens": "x"}, "completion_tokens_details": 7}, 3, 2),
    "a list": ([1, 2], None, None),
    "a text": ("12", None, None),
    "null": (None, None, None),
}  # fmt: skip


def _known(count: int | None) -> int | None:
    # A count of zero says as little as none.
    return count or None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", USAGES)
async def test_an_odd_usage_is_rounded_or_left_out(bench: Bench, way: str, name: str) -> None:
    usage, prompt, completion = USAGES[name]
    answer = await ask(bench, way, whole(usage=usage), told(usage=usage))
    assert content(answer) == "42"
    assert _known(answer.usage.prompt_tokens) == prompt
    assert _known(answer.usage.completion_tokens) == completion


FIELDS: dict[str, dict[str, Any]] = {
    "created a float": {"created": 1_800_000_000.75},
    "created a text": {"created": "1800000000"},
    "created nonsense": {"created": {"a": []}},
    "id a number": {"id": 12},
    "id null": {"id": None},
    "id a list": {"id": [1]},
    "model a number": {"model": 7},
    "model an object": {"model": {"name": "x"}},
    "object odd": {"object": 5},
    "fingerprint odd": {"system_fingerprint": [1], "service_tier": 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FIELDS)
async def test_an_odd_field_is_coerced(bench: Bench, way: str, name: str) -> None:
    answer = await ask(bench, way, whole(**FIELDS[name]), told(**FIELDS[name]))
    assert content(answer) == "42"
    assert isinstance(answer.response["id"], str)
    assert type(answer.response["created"]) is int
    assert isinstance(answer.response["model"], str)


PARTS: dict[str, dict[str, Any]] = {
    "role a number": {"role": 7},
    "role unheard of": {"role": "model"},
    "role null": {"role": None},
    "content parts": {"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]},
    "content texts": {"content": ["4", "2"]},
    "annotations odd": {"annotations": "none", "images": 5},
    "fields odd": {"provider_specific_fields": [1], "thinking_blocks": {"a": 1}},
    "reasoning odd": {"reasoning_content": {"text": "why"}},
    "audio odd": {"audio": "x", "refusal": None},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PARTS)
async def test_an_odd_part_of_a_message_is_read(bench: Bench, way: str, name: str) -> None:
    part = PARTS[name]
    delta = {"role": "assistant", "content": "42", **part}
    answer = await ask(bench, way, whole(message=part), stream(chunk(delta), chunk({}, "stop")))
    assert content(answer) == "42"
    assert answer.response["choices"][0]["message"]["role"] == "assistant"


LOGPROBS: dict[str, Any] = {
    "a list": [1],
    "a text": "x",
    "no tokens": {"content": [{"token": 1, "logprob": "x"}]},
    "odd bytes": {"content": [{"token": "a", "logprob": -1, "bytes": "x", "top_logprobs": []}]},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LOGPROBS)
async def test_odd_logprobs_are_left_out(bench: Bench, way: str, name: str) -> None:
    odd = {"logprobs": LOGPROBS[name]}
    body = stream(chunk({"content": "42"}, choice=odd), chunk({}, "stop"))
    answer = await ask(bench, way, whole(choice=odd), body)
    assert content(answer) == "42"


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_nested_too_deep_is_left_out(bench: Bench, way: str) -> None:
    deep: Any = "x"
    for _ in range(240):
        deep = [deep]
    extra = {"provider_specific_fields": {"deep": deep}}
    body = stream(chunk({"content": "42", **extra}), chunk({}, "stop"))
    answer = await ask(bench, way, whole(message=extra), body)
    assert content(answer) == "42"


@pytest.mark.parametrize("way", WAYS)
async def test_a_byte_that_is_not_utf8_is_replaced(bench: Bench, way: str) -> None:
    # The simulator sends text: this is the nearest it comes to a broken byte, and a mark at the beginning.
    answer = await ask(bench, way, "\ufeff" + whole("42"), told("42"))
    assert content(answer) == "42"
