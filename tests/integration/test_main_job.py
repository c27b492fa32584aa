"""The main job: an agent's completion goes through the queue, on real parts."""

import json
import time
from typing import Any

import pytest
from celery.result import AsyncResult
from pydantic import BaseModel
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    AssistantMessage,
    ChatCompletionMessageToolCall,
    ChatCompletionRequest,
    ChatCompletionTool,
    FunctionCall,
    FunctionObject,
    SystemMessage,
    ToolMessage,
    ToolType,
    UserMessage,
)

from rustic_ai.llm_queue.resolver.exceptions import AuthenticationError, JobCancelled, JobTimeout
from rustic_ai.llm_queue.tasks.job import NORMAL, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step, ToolCall
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

pytestmark = pytest.mark.usefixtures("worker")

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-3-5-haiku-latest",
    "gemini": "gemini/gemini-2.0-flash",
    "azure": "azure/gpt-4o-mini",
    "huggingface": "huggingface/meta-llama/Llama-2-7b",
    "cohere": "cohere/command-r",
}
ALL_PROVIDERS = pytest.mark.parametrize("name", MODELS)


@ALL_PROVIDERS
def test_each_provider_answers(llm: MakeLLM, provider: ProviderStub, name: str) -> None:
    provider.plan("q", Step(text="forty-two", prompt_tokens=11, completion_tokens=3))
    response = llm(model=MODELS[name]).completion(ask("What is it? #q"))
    assert response.choices[0].message.content == "forty-two"
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (11, 3)
    assert [one.provider for one in provider.requests("q")] == [name], "one request, to the right provider"
    provider.assert_clean()


@ALL_PROVIDERS
def test_a_rate_limit_is_waited_out(llm: MakeLLM, provider: ProviderStub, name: str) -> None:
    provider.plan("q", Step(status=429, retry_after_s=1), Step(text="at last"))
    response = llm(model=MODELS[name]).completion(ask("Now? #q"))
    assert response.choices[0].message.content == "at last"
    first, second = provider.requests("q")
    assert first.ended_at is not None
    assert second.received_at - first.ended_at >= 1.0, "Retry-After is the provider's to say"
    assert [(one.status, one.provider_status) for one in response.attempts] == [("failed", 429), ("ok", None)]
    provider.assert_clean()


@ALL_PROVIDERS
def test_a_wrong_key_is_an_authentication_error_at_once(
    llm: MakeLLM, provider: ProviderStub, name: str
) -> None:
    provider.plan("q", provider.bad_key(name), Step(text="never"))
    with pytest.raises(AuthenticationError) as caught:
        llm(model=MODELS[name]).completion(ask("Let me in #q"))
    assert caught.value.status_code == 401
    assert len(provider.requests("q")) == 1
    assert "sk-test" not in f"{caught.value}{caught.value!r}"
    provider.assert_clean()


@ALL_PROVIDERS
def test_a_provider_that_is_down_is_replaced_by_a_fallback(
    llm: MakeLLM, provider: ProviderStub, name: str
) -> None:
    other = "anthropic" if name == "openai" else "openai"
    provider.plan("q", Step(status=500, times=None), provider=name)
    provider.plan("q", Step(text="instead"), provider=other)
    response = llm(model=MODELS[name], fallback_models=[MODELS[other]], max_retries=1).completion(ask("#q"))
    assert response.choices[0].message.content == "instead"
    assert [one.provider for one in provider.requests("q")] == [name, name, other]
    assert [one.model for one in response.attempts] == [MODELS[name]] * 2 + [MODELS[other]]
    provider.assert_clean()


async def test_async_completion(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="async"))
    response = await llm().async_completion(ask("#q"))
    assert response.choices[0].message.content == "async"


def test_the_response_carries_costs_and_times(
    llm: MakeLLM, provider: ProviderStub, worker: WorkerProcess
) -> None:
    provider.plan(
        "q",
        Step(prompt_tokens=1000, completion_tokens=500, cached_tokens=400, reasoning_tokens=100, delay_s=0.2),
    )
    response = llm(model="openai/gpt-4o-mini").completion(ask("#q"))
    # LiteLLM's price map: 0.15 USD a million tokens in, 0.075 cached, 0.6 out.
    assert response.cost_usd == pytest.approx((600 * 0.15 + 400 * 0.075 + 500 * 0.6) / 1e6)
    assert (response.cached_tokens, response.reasoning_tokens) == (400, 100)
    assert response.worker == worker.nodename
    assert response.run_time_s is not None
    assert response.run_time_s >= 0.2
    assert response.queue_wait_s is not None
    assert response.possible_duplicate_charge is False
    assert [(one.number, one.status) for one in response.attempts] == [(1, "ok")]


def test_a_model_without_a_price_costs_nobody_knows(llm: MakeLLM) -> None:
    assert llm(model="openai/our-own-finetune").completion(ask("#q")).cost_usd is None


class Weather(BaseModel):
    """Looked up by its dotted name."""

    city: str
    celsius: float


TOOL = ChatCompletionTool(
    type=ToolType.function,
    function=FunctionObject(
        name="weather",
        description="The weather of a city",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    ),
)


def test_a_conversation_with_tools_survives_both_ways(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan(
        "q",
        Step(tool_calls=(ToolCall(name="weather", arguments='{"city": "Zürich"}'), ToolCall(name="weather"))),
    )
    call = ChatCompletionMessageToolCall(
        id="call_1", type=ToolType.function, function=FunctionCall(name="weather", arguments="{}")
    )
    request = ChatCompletionRequest(
        messages=[
            SystemMessage(content="Be brief."),
            UserMessage(content="And the weather? #q"),
            AssistantMessage(tool_calls=[call]),
            ToolMessage(content="sunny", tool_call_id="call_1"),
        ],
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=True,
        seed=7,
        n=1,
        stop="END",
        user="u1",
    )
    before = request.model_dump_json()
    response = llm().completion(request)
    assert request.model_dump_json() == before, "the caller's objects are the caller's"
    calls = response.choices[0].message.tool_calls
    assert calls is not None
    assert [(one.function.name, one.function.arguments) for one in calls] == [
        ("weather", '{"city": "Zürich"}'),
        ("weather", "{}"),
    ]
    assert response.choices[0].finish_reason == "tool_calls"
    sent: dict[str, Any] = provider.requests("q")[0].body
    assert [one["role"] for one in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][2]["tool_calls"][0]["id"] == "call_1"
    assert sent["tools"][0]["function"]["name"] == "weather"
    assert (sent["seed"], sent["stop"], sent["user"], sent["tool_choice"]) == (7, "END", "u1", "auto")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (f"{Weather.__module__}.Weather", "json_schema"),
        (Weather.model_json_schema(), "json_schema"),
        ({"type": "json_object"}, "json_object"),
    ],
    ids=["class name", "schema", "json_object"],
)
def test_a_response_format_reaches_the_provider(
    llm: MakeLLM, provider: ProviderStub, given: Any, sent: str
) -> None:
    provider.plan("q", Step(text='{"city": "Bern", "celsius": 3}'))
    response = llm().completion(ask("As JSON #q", response_format=given))
    assert Weather.model_validate_json(response.choices[0].message.content or "").city == "Bern"
    body: dict[str, Any] = provider.requests("q")[0].body
    assert body["response_format"]["type"] == sent
    if sent == "json_schema":
        schema = body["response_format"]["json_schema"]["schema"]
        assert set(schema["properties"]) == {"city", "celsius"}


def test_several_choices_and_reasoning_come_through(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="answer", reasoning="because"))
    response = llm().completion(ask("#q", n=3))
    assert len(response.choices) == 3
    assert response.choices[0].message.reasoning_content == "because"


def test_a_submitted_job_is_followed_and_found_again(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="later", hold=True))
    handle = llm().submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    assert handle.status() is JobState.RUNNING
    again = llm().job(handle.id)
    provider.release("q")
    assert again.result().choices[0].message.content == "later"
    assert handle.result().choices[0].message.content == "later"
    assert handle.status() is JobState.ANSWERED


def test_a_cancelled_job_closes_the_providers_connection(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(hold=True))
    handle = llm().submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    assert handle.cancel() is True
    with pytest.raises(JobCancelled):
        handle.result()
    (request,) = provider.wait_for(lambda seen: not seen[0].open, "q")
    assert request.client_closed
    assert handle.cancel() is False, "it has ended"


def test_a_call_past_its_timeout_is_cancelled_at_the_provider(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(hold=True))
    started = time.monotonic()
    with pytest.raises(JobTimeout) as caught:
        llm(timeout=1.5).completion(ask("#q"))
    assert time.monotonic() - started < 5
    assert caught.value.status_code == 1004
    (request,) = provider.wait_for(lambda seen: not seen[0].open, "q")
    assert request.client_closed


def test_celery_and_flower_see_the_result_but_not_the_answer(
    llm: MakeLLM, provider: ProviderStub, redis_url: str
) -> None:
    provider.plan("q", Step(text="the private answer"))
    handle = llm().submit(ask("#q"))
    handle.result()
    app = make_celery_app(QueueSettings(redis_url=redis_url), result_backend=redis_url)
    seen = AsyncResult(handle.id, app=app)
    assert seen.successful()
    assert "private" not in json.dumps(seen.result)
    assert seen.result["model"] == "openai/gpt-4o-mini"
    app.close()


def test_a_flushed_redis_does_not_stop_the_wake_ups(llm: MakeLLM, valkey: ValkeyServer) -> None:
    assert llm().completion(ask("one #a"))
    valkey.flush()
    assert llm(timeout=20).completion(ask("two #b"))


def test_nothing_is_left_when_the_work_is_done(llm: MakeLLM, valkey: ValkeyServer) -> None:
    llm().completion(ask("#q"))
    with valkey.client() as client:
        wait_until(lambda: client.llen(keys.message_list("llm", NORMAL)) == 0, 5, "the queue to be empty")
        lasting = [key for key in client.scan_iter("llmq:*") if client.ttl(key) < 0]
    assert lasting == []
