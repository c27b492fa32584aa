"""What a provider means: calls of tools, endings, and errors in answers of status 200."""

import json
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from support.providers.provider import Step
from support.providers.raw_answers import chunk, stream, whole
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content, kinds

LIKE_OPENAI = ["openai", "huggingface"]


def _call(
    index: int | None = 0, call_id: Any = None, name: Any = None, arguments: Any = None
) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if index is not None:
        made["index"] = index
    if call_id is not None:
        made["id"] = call_id
    return {"tool_calls": [made]}


#: Deltas of a stream, and the calls that they make.
CALLS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "two at index 0": (
        [_call(0, "c1", "read", '{"path":"a"}'), _call(0, "c2", "read", '{"path":"b"}')],
        [("read", '{"path":"a"}'), ("read", '{"path":"b"}')],
    ),
    "two at index 0, in pieces": (
        [_call(0, "c1", "read", ""), _call(0, None, None, '{"a"'), _call(0, None, None, ":1}"),
         _call(0, "c2", "write", ""), _call(0, None, None, "{}")],
        [("read", '{"a":1}'), ("write", "{}")],
    ),
    "two names at index 0, no ids": (
        [_call(0, None, "read", '{"path":"a"}'), _call(0, None, "write", '{"path":"b"}')],
        [("read", '{"path":"a"}'), ("write", '{"path":"b"}')],
    ),
    "the id in each piece": (
        [_call(0, "c1", "read", ""), _call(0, "c1", None, "{"), _call(0, "c1", None, "}")],
        [("read", "{}")],
    ),
    "a name in pieces": (
        [_call(0, "c1", "get_", ""), _call(0, None, "weather", ""), _call(0, None, None, "{}")],
        [("get_weather", "{}")],
    ),
    "a whole name repeated": (
        [_call(0, "c1", "weather", "{"), _call(0, "c1", "weather", "}")],
        [("weather", "{}")],
    ),
    "an object for arguments": ([_call(0, "c1", "f", {"a": [1]})], [("f", '{"a": [1]}')]),
    "no arguments": ([_call(0, "c1", "f", None)], [("f", "{}")]),
    "no index": (
        [_call(None, "c1", "f", "{}"), _call(None, "c2", "g", "{}")],
        [("f", "{}"), ("g", "{}")],
    ),
    "indexes from 1": ([_call(1, "c1", "f", "{}"), _call(2, "c2", "g", "{}")], [("f", "{}"), ("g", "{}")]),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKE_OPENAI)
@pytest.mark.parametrize("case", CALLS)
async def test_streamed_calls_of_tools_are_told_apart(bench: Bench, name: str, case: str) -> None:
    deltas, right = CALLS[case]
    body = stream(*(chunk(delta) for delta in deltas), chunk({}, "tool_calls"))
    bench.stub.plan("calls", Step(raw=body))
    sink = NotedSink()
    answer = await bench.run("hello #calls", MODELS[name], sink=sink)
    made = answer.response["choices"][0]["message"]["tool_calls"]
    assert [(one["function"]["name"], one["function"]["arguments"]) for one in made] == right
    assert len(bench.stub.requests("calls")) == 1
    # Whoever reads the stream alone tells them apart by their index.
    indexes = {
        piece["index"]
        for one in sink.chunks
        for choice in one["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    }
    assert len(indexes) == len(right)


@pytest.mark.parametrize("fast_path", ["on", "off"])
async def test_an_object_for_arguments_becomes_json(bench: Bench, fast_path: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    bench.stub.plan("obj", Step(raw=whole(None, message={"tool_calls": [call]})))
    answer = await Bench.over(bench.stub, fast_path=fast_path).run("hello #obj")
    (made,) = answer.response["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"a": 1}


async def test_pieces_of_a_function_call_and_of_audio_are_joined(bench: Bench) -> None:
    body = stream(
        chunk({"function_call": {"name": "f", "arguments": '{"a"'}}),
        chunk({"function_call": {"arguments": ":1}"}}),
        chunk({"audio": {"id": "a1", "data": "UklG", "transcript": "Hel"}}),
        chunk({"audio": {"data": "Rg==", "transcript": "lo"}}),
        chunk({}, "function_call"),
    )
    bench.stub.plan("joined", Step(raw=body))
    answer = await bench.run("hello #joined", sink=NotedSink())
    message = answer.response["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert message["audio"] == {"id": "a1", "data": "UklGRg==", "transcript": "Hello"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", LIKE_OPENAI)
@pytest.mark.parametrize(
    "word", ["error", "network_error", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL"]
)
async def test_a_provider_that_gave_up_has_not_answered(
    bench: Bench, word: str, name: str, streamed: bool
) -> None:
    body = (
        stream(chunk({"content": "half a"}), chunk({}, word))
        if streamed
        else whole("half a", choice={"finish_reason": word})
    )
    bench.stub.plan("gave up", Step(raw=body, times=2), provider=name)
    sink = NotedSink() if streamed else None
    bench.stub.plan("gaveup", Step(raw=body, times=2), provider=name)
    answer = await bench.run("hello #gaveup", MODELS[name], MODELS["gemini"], sink=sink, max_retries=1)
    assert kinds(answer) == ["internal_server", "internal_server", "ok"]
    assert answer.model == MODELS["gemini"]
    assert "half a" not in content(answer)


async def test_gemini_gives_up_on_a_function_call(bench: Bench) -> None:
    part = {"content": {"parts": [{"text": "half a"}], "role": "model"}, "index": 0}
    body = json.dumps({"candidates": [{**part, "finishReason": "MALFORMED_FUNCTION_CALL"}]})
    bench.stub.plan("mal", Step(raw=body), Step(raw=f"data: {body}\n\n"))
    for sink in (None, NotedSink()):
        envelope = await bench.failure("hello #mal", MODELS["gemini"], sink=sink, max_retries=0)
        assert envelope.kind is ErrorKind.INTERNAL_SERVER


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", LIKE_OPENAI)
@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_call", "tool_calls"),
        ("safety", "content_filter"),
        ("RECITATION", "content_filter"),
        ("prohibited_content", "content_filter"),
    ],
)
async def test_other_words_for_an_ending_are_openais(
    bench: Bench, word: str, meaning: str, name: str, streamed: bool
) -> None:
    body = (
        stream(chunk({"content": "42"}), chunk({}, word))
        if streamed
        else whole("42", choice={"finish_reason": word})
    )
    bench.stub.plan("word", Step(raw=body))
    answer = await bench.run("hello #word", MODELS[name], sink=NotedSink() if streamed else None)
    (choice,) = answer.response["choices"]
    assert choice["finish_reason"] == meaning
    assert choice["provider_specific_fields"]["native_finish_reason"] == word


#: Errors that come with status 200: the kind, and whether it is tried again.
ERRORS: dict[str, tuple[Any, ErrorKind, bool]] = {
    "by its code": ({"code": 400, "message": "prompt is too long"}, ErrorKind.BAD_REQUEST, False),
    "a code in words": ({"code": "rate_limit_exceeded", "message": "slow"}, ErrorKind.RATE_LIMIT, True),
    "429": ({"code": 429, "message": "slow"}, ErrorKind.RATE_LIMIT, True),
    "502 as text": ({"code": "502", "message": "bad gateway"}, ErrorKind.INTERNAL_SERVER, True),
    "its type": ({"type": "invalid_request_error", "message": "no"}, ErrorKind.BAD_REQUEST, False),
    "too long": (
        {"code": "context_length_exceeded", "status": 400, "message": "x"}, ErrorKind.CONTEXT_WINDOW, False
    ),
    "Ollama": ("unexpected EOF", ErrorKind.INTERNAL_SERVER, True),
    "nothing but a message": ({"message": "overloaded"}, ErrorKind.INTERNAL_SERVER, True),
}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", LIKE_OPENAI)
@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_with_status_200_is_one(bench: Bench, case: str, name: str, streamed: bool) -> None:
    error, kind, again = ERRORS[case]
    body = json.dumps({"error": error})
    text = stream(chunk({"content": "half"}), body, done=False) if streamed else body
    bench.stub.plan("err", Step(raw=text, times=None))
    sink = NotedSink() if streamed else None
    envelope = await bench.failure("hello #err", MODELS[name], sink=sink, max_retries=1)
    assert envelope.kind is kind
    assert envelope.message == (error if isinstance(error, str) else error["message"])
    assert len(bench.stub.requests("err")) == (2 if again else 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("code", "kind"),
    [("context_length_exceeded", ErrorKind.CONTEXT_WINDOW), ("content_filter", ErrorKind.CONTENT_POLICY)],
)
@pytest.mark.parametrize("name", ["openai", "azure", "huggingface"])
async def test_a_400s_code_outranks_its_words(
    bench: Bench, name: str, code: str, kind: ErrorKind, streamed: bool
) -> None:
    words = "Your rate limit and quota; invalid api key; content management policy; maximum context length"
    body = json.dumps({"error": {"message": words, "code": code, "type": "invalid_request_error"}})
    bench.stub.plan("code", Step(raw=body, status=400, times=None))
    envelope = await bench.failure("hello #code", MODELS[name], sink=NotedSink() if streamed else None)
    assert envelope.kind is kind
    assert len(bench.stub.requests("code")) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [425, 498])
async def test_too_early_and_no_capacity_are_tried_again(bench: Bench, status: int, streamed: bool) -> None:
    bench.stub.plan("early", Step(raw='{"error": {"message": "later"}}', status=status))
    answer = await bench.run("hello #early", sink=NotedSink() if streamed else None)
    assert kinds(answer) == ["internal_server", "ok"]
