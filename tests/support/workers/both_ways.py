"""The same call twice, the short way through LiteLLM and LiteLLM's own."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import litellm
import pytest

from rustic_ai.llm_queue.worker.provider import provider as worker_provider
from rustic_ai.llm_queue.worker.provider.litellm_api import fast_path, handler_call
from rustic_ai.llm_queue.worker.provider.litellm_api.litellm_stream import LiteLLMStream
from support.providers.provider import Step, ToolCall
from support.providers.provider_plan import Fault
from support.workers.attempt_kit import Bench, NotedSink

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a place",
        "strict": True,
        "parameters": {"type": "object", "properties": {"place": {"type": "string", "pattern": "^(?<a>x)$"}}},
    },
    "cache_control": {"type": "ephemeral"},
    "defer_loading": True,
    "eager_input_streaming": True,
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}

#: What may be asked for. The tag finds each one's request.
PARAMETERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "numbers": {
        "temperature": 0.1,
        "top_p": 0.5,
        "frequency_penalty": 0.2,
        "presence_penalty": -1,
        "seed": 7,
    },
    "lengths": {"max_tokens": 12},
    "new lengths": {"max_completion_tokens": 12},
    "choices": {"n": 3, "logprobs": True, "top_logprobs": 2},
    "stops": {"stop": ["a", "b", "c", "d", "e"]},
    "stop": {"stop": "a"},
    "bias": {"logit_bias": {"12": -100}, "user": "me"},
    "keeping": {"store": True, "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k"},
    "tools": {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    "one tool": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "choice alone": {"tool_choice": "auto"},
    "no tools": {"tools": []},
    "json": {"response_format": {"type": "json_object"}},
    "schema": {"response_format": SCHEMA},
    "None": {"temperature": None, "tools": None},
}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "system": [{"role": "system", "content": "be brief"}],
    "developer": [{"role": "developer", "content": "be brief"}],
    "tool": [
        {"role": "user", "content": "w?"},
        CALLED,
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ],
    "no role": [{"content": "I said"}],
    "none within": [{"role": "assistant", "content": "x", "name": None}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "see", "cache_control": {}}, IMAGE]}],
}
ANSWERS: dict[str, Step] = {
    "text": Step(text="42 \u2028 \U0001f600"),
    "tools": Step(tool_calls=(ToolCall(name="weather", arguments='{"place": "x"}'), ToolCall(name="other"))),
    "reasoning": Step(text="42", reasoning="6 by 7", reasoning_tokens=3, cached_tokens=2),
    "refusal": Step(refusal="no"),
    "cut short": Step(text="4", finish_reason="length"),
    "empty": Step(text=""),
}
FAILURES: dict[str, Step] = {
    **{str(status): Step(status=status, times=None) for status in (400, 401, 403, 404, 409, 422, 500, 503)},
    "limited": Step(status=429, retry_after_s=0.01, times=None),
    "too long": Step(status=400, code="context_length_exceeded"),
    "filtered": Step(status=400, code="content_filter"),
    "not JSON": Step(status=502, raw="<html>bad gateway</html>", times=None),
}
#: In words of OpenAI's SDK, which LiteLLM calls OpenAI and Azure by.
SDKS_ENDS: dict[str, Step] = {
    "no room for a word": Step(
        status=400,
        message="Could not finish the message because max_tokens or model output limit was reached.",
        times=None,
    ),
    "no answer": Step(raw="<html>welcome</html>", headers={"content-type": "text/html"}, times=None),
    **{raw: Step(raw=raw, times=None) for raw in ("[1]", '"text"', "null", "{}")},
    "an object of another type": Step(
        raw='{"choices": [{"index": 0, "message": {"content": "1"}, "finish_reason": "stop"}]}',
        headers={"content-type": "text/plain"},
        times=None,
    ),
}
#: Of these LiteLLM's clients speak in words of their own.
BREAKS: tuple[Fault, ...] = ("refuse", "abort", "cut", "reset", "bad_json")
#: Pictures and files, which their handlers may fetch, are left to LiteLLM's own way.
BY_HANDLERS = ("anthropic/", "gemini/", "azure/")
#: How a client calls itself and what it can read: not what it asks for.
OF_THE_CLIENT = ("x-stainless", "user-agent", "accept", "host", "content-length", "connection")


async def both_ends(
    monkeypatch: pytest.MonkeyPatch,
    benches: Callable[[], Bench],
    model: str,
    step: Step | None = None,
    *,
    short: str = "lean",
    sdk: bool | None = False,
    streamed: bool = False,
    **how: Any,
) -> list[Any]:
    """The requests and the end of the same call, the short way and LiteLLM's own; its chunks if `streamed`.

    `short` is the way that the first is expected to take; `sdk` whether by OpenAI's SDK, None if it is not
    to be told.
    """
    ends: list[Any] = []
    for way in (short, "whole"):
        bench = benches()
        taken = noted_ways(monkeypatch)
        bench.stub.plan("*", *([step] if step else []))
        if ends:
            monkeypatch.setattr(worker_provider, "fits", lambda *_: False)
            monkeypatch.setattr(worker_provider, "handler_fits", lambda *_: False)
            monkeypatch.setattr(worker_provider, "LiteLLMStream", lambda wrapper, **_: LiteLLMStream(wrapper))
        before = len(bench.stub.requests())
        sink = NotedSink() if streamed else None
        try:
            end: Any = (await bench.run("ask", model, max_retries=1, sink=sink, **how)).response
        except Exception as error:
            end = _told(error)
        requests = bench.stub.requests()[before:]
        assert set(taken) == {way}
        if sdk is not None:
            assert all(made_by_the_sdk(request) == (sdk or way == "whole") for request in requests)
        read = [] if sink is None else [sink.restarts, [_compared(chunk) for chunk in sink.chunks]]
        ends.append(([_asked(request) for request in requests], _compared(end), *read))
    return ends


def noted_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The way that each call from here on takes."""
    taken: list[str] = []
    short, by_handler = fast_path.lean_completion, handler_call.handler_completion
    stream, stream_by_handler = fast_path.lean_stream, handler_call.handler_stream
    whole = litellm.acompletion

    async def by_the_short_way(*args: Any) -> object:
        taken.append("lean")
        return await short(*args)

    async def by_the_handler(*args: Any) -> object:
        taken.append("lean")
        return await by_handler(*args)

    async def by_a_short_stream(*args: Any) -> object:
        taken.append("lean")
        return await stream(*args)

    async def streamed_by_the_handler(*args: Any) -> object:
        taken.append("lean")
        return await stream_by_handler(*args)

    async def by_litellms_way(**arguments: Any) -> object:
        taken.append("whole")
        return await whole(**arguments)

    monkeypatch.setattr(worker_provider, "lean_completion", by_the_short_way)
    monkeypatch.setattr(worker_provider, "lean_stream", by_a_short_stream)
    monkeypatch.setattr(worker_provider, "handler_stream", streamed_by_the_handler)
    monkeypatch.setattr(worker_provider, "handler_completion", by_the_handler)
    monkeypatch.setattr(litellm, "acompletion", by_litellms_way)
    return taken


def assert_broken_alike(ends: Sequence[Any]) -> None:
    """Both ways end with the same failure, neither of which quotes a broken answer's secret words."""
    for _, (envelope, _), *_ in ends:
        assert "secret" not in envelope.pop("message")
    assert ends[0] == ends[1]


def is_pictured(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a message holds the picture."""
    return any(isinstance(one["content"], list) and IMAGE in one["content"] for one in messages)


def made_by_the_sdk(request: Any) -> bool:
    """Whether OpenAI's SDK made it."""
    return request.header("x-stainless-lang") is not None


def _told(error: Any) -> Any:
    envelope = getattr(error, "envelope", None)
    assert envelope is not None, repr(error)
    return envelope.model_dump(), [(one.status, one.error) for one in error.attempts]


def _asked(request: Any) -> Any:
    headers = {k.lower(): v for k, v in request.headers if not k.lower().startswith(OF_THE_CLIENT)}
    return request.path, request.body, headers


def _compared(end: Any) -> Any:
    if not isinstance(end, Mapping):
        return end
    # The simulator numbers its answers and their calls, and looks at its clock; Gemini names no calls,
    # and LiteLLM gives each a number by chance.
    for choice in end["choices"]:
        for call in (choice.get("message") or choice["delta"]).get("tool_calls") or ():
            if "id" not in call:
                # LiteLLM's models repeat it with each piece of a call; OpenAI's do not.
                call.pop("type", None)
            else:
                call["id"] = re.sub(r"call_(\d+_|[0-9a-f]{28}$)", "call_", call["id"])
    return {name: end[name] for name in end.keys() - {"id", "created"}}
