"""An answer's every part comes through, streamed or not, from each provider's format."""

import json
from typing import Any

import pytest

from support.providers.provider import Step, ToolCall
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content

LIKE_OPENAI = ["openai", "azure", "huggingface"]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(params=["whole", "streamed"])
def sink(request: pytest.FixtureRequest) -> NotedSink | None:
    return NotedSink() if request.param == "streamed" else None


@pytest.mark.parametrize("name", MODELS)
async def test_tool_calls(bench: Bench, name: str, sink: NotedSink | None) -> None:
    arguments = {"city": "Zürich", "days": [1, 2], "note": 'say "hi"\n'}
    calls = (ToolCall(name="weather", arguments=json.dumps(arguments)), ToolCall(name="clock"))
    bench.stub.plan("tools", Step(text="", tool_calls=calls))
    answer = await bench.run("hello #tools", MODELS[name], sink=sink, tools=[WEATHER])
    (choice,) = answer.response["choices"]
    made = choice["message"]["tool_calls"]
    assert [one["function"]["name"] for one in made] == ["weather", "clock"]
    assert [json.loads(one["function"]["arguments"]) for one in made] == [arguments, {}]
    assert len({one["id"] for one in made}) == 2
    assert all(set(one) == {"id", "type", "function"} for one in made)
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("name", [*LIKE_OPENAI, "anthropic", "gemini"])
async def test_reasoning(bench: Bench, name: str, sink: NotedSink | None) -> None:
    step = Step(reasoning="first this then that", text="42", reasoning_tokens=5, cached_tokens=2,
                prompt_tokens=10, completion_tokens=9)  # fmt: skip
    bench.stub.plan("think", step)
    answer = await bench.run("hello #think", MODELS[name], sink=sink)
    message = answer.response["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("42", "first this then that")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cached_tokens) == (
        10,
        9,
        2,
    )
    if sink is not None:
        assert sink.text(part="reasoning_content") == "first this then that"


async def test_anthropics_thinking_keeps_its_signature(bench: Bench, sink: NotedSink | None) -> None:
    bench.stub.plan("sig", Step(reasoning="first this then that", text="42"))
    answer = await bench.run("hello #sig", MODELS["anthropic"], sink=sink)
    assert answer.response["choices"][0]["message"]["thinking_blocks"] == [
        {"type": "thinking", "thinking": "first this then that", "signature": "c2ln"}
    ]


@pytest.mark.parametrize("name", LIKE_OPENAI)
async def test_refusal(bench: Bench, name: str, sink: NotedSink | None) -> None:
    bench.stub.plan("refuse", Step(refusal="I had rather not do that"))
    answer = await bench.run("hello #refuse", MODELS[name], sink=sink)
    message = answer.response["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I had rather not do that")


@pytest.mark.parametrize("name", [*LIKE_OPENAI, "gemini"])
async def test_several_choices(bench: Bench, name: str, sink: NotedSink | None) -> None:
    answer = await bench.run("hello #many", MODELS[name], sink=sink, n=3)
    (request,) = bench.stub.requests("many")
    assert [one["index"] for one in answer.response["choices"]] == [0, 1, 2]
    assert [content(answer, index) for index in range(3)] == request.texts
    assert {one["finish_reason"] for one in answer.response["choices"]} == {"stop"}
    if sink is not None:
        assert [sink.text(index) for index in range(3)] == request.texts


# Cohere has no word for a filtered answer: it ends as an error.
@pytest.mark.parametrize(
    ("name", "reason"),
    [(name, reason) for name in MODELS for reason in ("stop", "length", "content_filter")
     if (name, reason) != ("cohere", "content_filter")],
)  # fmt: skip
async def test_finish_reasons_are_openais(
    bench: Bench, name: str, reason: str, sink: NotedSink | None
) -> None:
    bench.stub.plan("end", Step(finish_reason=reason))
    answer = await bench.run("hello #end", MODELS[name], sink=sink)
    assert answer.response["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    "text",
    [
        "the [DONE] mark, and data: {",
        "\n\n lines \r\n and\ttabs ",
        " yes" * 300,
        "東京🙂 e\u0301 \u2028 \u00a0",
        "",
    ],
    ids=["marks", "blanks", "repeats", "unicode", "empty"],
)
@pytest.mark.parametrize("name", MODELS)
async def test_text_is_the_providers_own(bench: Bench, name: str, text: str, sink: NotedSink | None) -> None:
    bench.stub.plan("text", Step(text=text, chunk_chars=5))
    answer = await bench.run("hello #text", MODELS[name], sink=sink)
    assert content(answer) == text
    if sink is not None:
        assert sink.text() == text


@pytest.mark.parametrize("name", MODELS)
async def test_the_response_is_openais_json_and_nothing_more(
    bench: Bench, name: str, sink: NotedSink | None
) -> None:
    answer = await bench.run("hello #form", MODELS[name], sink=sink)
    response: dict[str, Any] = json.loads(json.dumps(answer.response))
    assert response["object"] == "chat.completion"
    assert response["id"]
    assert response["created"] > 1_700_000_000
    assert set(response) <= {
        "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
    }  # fmt: skip
    assert not [name for name in response if name.startswith("_")]
    usage = response["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("name", MODELS)
async def test_chunks_are_openais(bench: Bench, name: str) -> None:
    sink = NotedSink()
    await bench.run("hello #chunks", MODELS[name], sink=sink)
    assert len({chunk["id"] for chunk in sink.chunks}) == 1
    assert {chunk["object"] for chunk in sink.chunks} == {"chat.completion.chunk"}
    reasons = [one["finish_reason"] for chunk in sink.chunks for one in chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert any(chunk.get("usage") for chunk in sink.chunks)
