"""Real guilds: the LiteLLMResolver's page with the class name changed, and agents in processes."""

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild import Agent
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ArrayOfContentParts,
    ChatCompletionRequest,
    ImageContentPart,
    ImageUrl,
    TextContentPart,
    UserMessage,
)
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.guild.dsl import AgentSpec, DependencySpec
from rustic_ai.core.guild.guild import Guild

from support.callers.documented_agents import AsyncQueryRequest, CautiousAgent, LLMAgent, QueryRequest
from support.callers.llm import MakeLLM
from support.processes.wait import wait_until
from support.providers.provider import API_KEY, ProviderStub, Step
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.usefixtures("worker")

RESOLVER = "rustic_ai.llm_queue.resolver.QueueLLMResolver"
PROCESSES = "rustic_ai.core.guild.execution.multiprocess.MultiProcessExecutionEngine"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)

Asked = Callable[[BaseModel], dict[str, Any]]
MakeGuild = Callable[..., Asked]


@pytest.fixture
def guild(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeGuild]:
    """Launches a guild of one agent; gives a function that asks it and waits for the reply."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    guilds: list[Guild] = []

    def launch(
        agent: type[Agent[Any]],
        properties: dict[str, Any],
        *,
        configure: Callable[[GuildBuilder], object] = lambda builder: None,
    ) -> Asked:
        builder = GuildBuilder(f"llm_guild_{uuid.uuid4().hex}", "LLM Guild", "Guild with LLM capabilities")
        builder.add_dependency_resolver("llm", DependencySpec(class_name=RESOLVER, properties=properties))
        spec: AgentSpec[Any] = (
            AgentBuilder(agent).set_id("llm-agent").set_name("LLM").set_description("Answers").build_spec()
        )
        builder.add_agent_spec(spec)
        configure(builder)
        guild = builder.launch("acme")
        guilds.append(guild)
        probe = guild._add_local_agent(
            AgentBuilder(ProbeAgent).set_id("probe").set_name("Probe").set_description("Probes").build_spec()
        )
        assert isinstance(probe, ProbeAgent)

        def ask(payload: BaseModel) -> dict[str, Any]:
            before = len(probe.received_messages)
            probe.publish(guild.DEFAULT_TOPIC, payload)
            wait_until(lambda: len(probe.received_messages) > before, 40, "the agent's reply")
            reply: dict[str, Any] = probe.received_messages[before].payload
            return reply

        return ask

    yield launch
    for each in guilds:
        each.shutdown()


PAGE_PROPERTIES = {
    "model": "gpt-4",
    "temperature": 0.5,
    "max_tokens": 1000,
    "fallback_models": ["gpt-3.5-turbo", "claude-instant-1"],
}


def test_the_pages_guild_answers(guild: MakeGuild, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="Paris", prompt_tokens=20, completion_tokens=1))
    reply = guild(LLMAgent, PAGE_PROPERTIES)(QueryRequest(query="Capital of France? #q"))
    assert reply["response"] == "Paris"
    assert reply["usage"] == {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    (sent,) = provider.requests("q")
    assert (sent.model, sent.body["temperature"], sent.body["max_tokens"]) == ("gpt-4", 0.5, 1000)
    assert [message["role"] for message in sent.body["messages"]] == ["system", "user"]


def test_the_pages_async_agent_answers(guild: MakeGuild, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="Berne"))
    reply = guild(LLMAgent, PAGE_PROPERTIES)(AsyncQueryRequest(query="Capital of Switzerland? #q"))
    assert reply["response"] == "Berne"


def test_the_pages_fallbacks_are_tried_in_order(guild: MakeGuild, provider: ProviderStub) -> None:
    for model in ("gpt-4", "gpt-3.5-turbo"):
        provider.plan("q", Step(status=503, times=None), model=model)
    provider.plan("q", Step(text="from Claude"), provider="anthropic")
    properties = {**PAGE_PROPERTIES, "max_retries": 0}
    assert guild(LLMAgent, properties)(QueryRequest(query="#q"))["response"] == "from Claude"
    assert [one.model for one in provider.requests("q")] == ["gpt-4", "gpt-3.5-turbo", "claude-instant-1"]


def test_upstreams_own_shape_of_properties_works(guild: MakeGuild, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="ok"))
    properties = {"model": "gpt-4", "conf": {"messages": [{"role": "system", "content": "Be curt."}]}}
    assert guild(LLMAgent, properties)(QueryRequest(query="#q"))["response"] == "ok"
    (sent,) = provider.requests("q")
    assert sent.body["messages"][0]["content"] == "Be curt."


@pytest.mark.parametrize(
    ("step", "handled"),
    [
        (Step(status=429, times=None), "rate limit"),
        (Step(status=400, code="context_length_exceeded", times=None), "context length"),
        (Step(status=404, times=None), "other"),
    ],
)
def test_the_pages_error_handling(guild: MakeGuild, provider: ProviderStub, step: Step, handled: str) -> None:
    provider.plan("q", step)
    reply = guild(CautiousAgent, {"model": "gpt-4", "max_retries": 0})(QueryRequest(query="#q"))
    assert reply["handled"] == handled


def test_the_pages_multimodal_request(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="a pixel"))
    parts: list[Any] = [
        TextContentPart(text="What's in this image? #q"),
        ImageContentPart(image_url=ImageUrl(url=PIXEL)),
    ]
    response = llm(model="gpt-4o").completion(
        ChatCompletionRequest(messages=[UserMessage(content=ArrayOfContentParts(root=parts))])
    )
    assert response.choices[0].message.content == "a pixel"
    content = provider.requests("q")[0].body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"] == PIXEL


def test_the_pages_cost_estimate(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(prompt_tokens=10, completion_tokens=20))
    response = llm(model="gpt-3.5-turbo").completion(
        ChatCompletionRequest(messages=[UserMessage(content="#q")])
    )
    assert response.usage is not None
    assert response.usage.total_tokens * 0.00002 == pytest.approx(0.0006)
    assert response.cost_usd == pytest.approx(10 * 0.5e-6 + 20 * 1.5e-6)


@pytest.mark.parametrize(
    ("model", "served_by", "served_as"),
    [
        ("gpt-4", "openai", "gpt-4"),
        ("gpt-3.5-turbo", "openai", "gpt-3.5-turbo"),
        ("anthropic/claude-3-opus", "anthropic", "claude-3-opus"),
        ("anthropic/claude-instant-1", "anthropic", "claude-instant-1"),
        ("google/gemini-pro", "gemini", "gemini-pro"),
        ("azure/gpt-4", "azure", "gpt-4"),
        ("huggingface/meta-llama/Llama-2-7b", "huggingface", "meta-llama/Llama-2-7b"),
    ],
)
def test_the_pages_model_specifications(
    llm: MakeLLM, provider: ProviderStub, model: str, served_by: str, served_as: str
) -> None:
    llm(model=model).completion(ChatCompletionRequest(messages=[UserMessage(content="#q")]))
    (sent,) = provider.requests("q")
    assert (sent.provider, sent.model) == (served_by, served_as)


def test_the_workers_environment_holds_the_key(llm: MakeLLM, provider: ProviderStub) -> None:
    llm(model="gpt-4").completion(ChatCompletionRequest(messages=[UserMessage(content="#q")]))
    (sent,) = provider.requests("q")
    assert sent.header("authorization") == f"Bearer {API_KEY}"


@pytest.mark.leaves_keys("llm_guild_*", "eo:pos:*", reason="Rustic's own messages and positions")
def test_agents_in_processes_of_their_own(
    guild: MakeGuild, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(text="from afar"))

    def configure(builder: GuildBuilder) -> None:
        builder.set_execution_engine(PROCESSES)
        builder.set_messaging(
            "rustic_ai.redis.messaging.backend",
            "RedisMessagingBackend",
            {"redis_client": {"host": valkey.host, "port": valkey.port}},
        )

    ask = guild(LLMAgent, {"model": "gpt-4"}, configure=configure)
    for _ in range(2):
        reply = ask(QueryRequest(query="Where are you? #q"))
        assert reply["pid"] != os.getpid()
    assert reply["response"]
