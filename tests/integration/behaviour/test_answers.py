"""What an answer is and what it says of itself, in memory as on real parts."""

import json

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionTool,
    FinishReason,
    FunctionObject,
    SystemMessage,
    ToolType,
)

from rustic_ai.llm_queue.resolver import JobState, QueueChatCompletionResponse, ResponseProcessingError
from support.callers.behaviour import MODEL, PRICES, Backend
from support.callers.llm import ask
from support.providers.provider import Step, ToolCall

SCHEMA = {"title": "N", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = ChatCompletionTool(
    type=ToolType.function,
    function=FunctionObject(name="weather", description="Weather", parameters={"type": "object"}),
)
CITIES = [{"city": "Zürich"}, {"city": "東京"}]
TWO_CALLS = Step(tool_calls=tuple(ToolCall(name="weather", arguments=json.dumps(city)) for city in CITIES))


def assert_whole(backend: Backend, response: QueueChatCompletionResponse) -> None:
    assert response.choices[0].message.content == "Paris"
    assert response.choices[0].message.role == "assistant"
    assert response.choices[0].finish_reason == FinishReason.stop
    assert response.model == "gpt-4o-mini"
    assert [message.content for message in response.input_messages or ()] == ["Capital of France?"]
    assert backend.llm().job(response.job_id or "").status() is JobState.ANSWERED


def test_a_completion(backend: Backend) -> None:
    backend.script(Step(text="Paris"))
    assert_whole(backend, backend.llm().completion(ask("Capital of France?")))


async def test_an_async_completion(backend: Backend) -> None:
    backend.script(Step(text="Paris"))
    assert_whole(backend, await backend.llm().async_completion(ask("Capital of France?")))


def test_what_the_model_is_asked(backend: Backend) -> None:
    llm = backend.llm(temperature=0.25, messages=[SystemMessage(content="Be curt.").model_dump()])
    llm.completion(ask("Well?", max_tokens=7, stop="END"))
    (asked,) = backend.asked()
    assert [message["content"] for message in asked["messages"]] == ["Be curt.", "Well?"]
    assert (asked["temperature"], asked["max_tokens"], asked["stop"]) == (0.25, 7, "END")


def test_what_an_answer_says_of_itself(backend: Backend) -> None:
    backend.script(
        Step(text="ok", prompt_tokens=1000, completion_tokens=500, cached_tokens=400, reasoning_tokens=100)
    )
    response = backend.llm().completion(ask("How much?"))
    assert response.usage is not None
    usage = response.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 500, 1500)
    assert response.cost_usd == pytest.approx(600 * PRICES[0] + 400 * PRICES[1] + 500 * PRICES[2])
    assert (response.cached_tokens, response.reasoning_tokens) == (400, 100)
    (attempt,) = response.attempts
    assert (attempt.number, attempt.epoch, attempt.model, attempt.status) == (1, 1, MODEL, "ok")
    assert (attempt.error, attempt.provider_status, attempt.backoff_s) == (None, None, None)
    assert attempt.run_time_s is not None
    assert response.worker
    assert response.queue_wait_s is not None
    assert response.run_time_s is not None
    assert response.possible_duplicate_charge is False


def test_tool_calls(backend: Backend) -> None:
    backend.script(TWO_CALLS)
    response = backend.llm().completion(ask("And the weather?", tools=[TOOL]))
    (choice,) = response.choices
    assert choice.finish_reason == FinishReason.tool_calls
    assert not choice.message.content
    calls = choice.message.tool_calls
    assert calls is not None
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", city) for city in CITIES
    ]
    assert len({call.id for call in calls}) == 2
    assert backend.asked()[0]["tools"][0]["function"]["name"] == "weather"


def test_streamed_tool_calls_add_up(backend: Backend) -> None:
    backend.script(TWO_CALLS)
    arguments: dict[int, str] = {}
    with backend.llm().stream(ask("And the weather?", tools=[TOOL])) as stream:
        for delta in (choice.delta for chunk in stream for choice in chunk.choices):
            for piece in delta.tool_calls or ():
                assert piece.function is not None
                arguments[piece.index] = arguments.get(piece.index, "") + (piece.function.arguments or "")
    assert [json.loads(arguments[index]) for index in sorted(arguments)] == CITIES
    calls = stream.response.choices[0].message.tool_calls
    assert calls is not None
    assert [json.loads(call.function.arguments) for call in calls] == CITIES


def test_an_answer_in_a_form(backend: Backend) -> None:
    backend.script(Step(text='{"n": 7}'), Step(text='{"n": "seven"}'))
    llm, prompt = backend.llm(enable_json_schema_validation=True), ask("As JSON", response_format=SCHEMA)
    assert json.loads(llm.completion(prompt).choices[0].message.content or "") == {"n": 7}
    with pytest.raises(ResponseProcessingError, match=r"\$.n"):
        llm.completion(prompt)
    form = backend.asked()[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"]["required"] == ["n"]


def test_an_answer_that_was_cut_short_says_so(backend: Backend) -> None:
    backend.script(Step(text="Once upon", finish_reason="length"))
    response = backend.llm().completion(ask("Tell me a story."))
    assert response.choices[0].finish_reason == FinishReason.length
