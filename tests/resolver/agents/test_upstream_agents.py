"""Upstream's agents, unchanged, in real guilds that answer through `QueueLLMResolver`."""

# Rustic's `processor` has no types.
# mypy: disable-error-code="untyped-decorator"

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from rustic_ai.core.agents.llm.simple_llm_agent import (
    SimpleChatMessage,
    SimpleChatResponse,
    SimpleLLMAgent,
    SimpleLLMAgentConf,
)
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild import Agent, agent
from rustic_ai.core.guild.agent_ext.depends.dependency_resolver import DependencySpec
from rustic_ai.core.guild.agent_ext.depends.llm import LLM
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionError,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ResponseCodes,
    UserMessage,
)
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.guild.dsl import AgentSpec, BaseAgentProps
from rustic_ai.core.guild.guild import Guild
from rustic_ai.core.messaging.core.message import Message
from rustic_ai.core.utils.basic_class_utils import get_qualified_class_name
from rustic_ai.llm_agent.llm_agent import LLMAgent
from rustic_ai.llm_agent.llm_agent_conf import LLMAgentConfig, Models
from rustic_ai.llm_agent.react.react_agent import ReActAgent, ReActAgentConfig
from rustic_ai.llm_agent.react.toolsets.math import MathToolset

from rustic_ai.llm_queue.resolver import ErrorKind, QueueChatCompletionResponse
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from support.processes.wait import wait_until

RESOLVER = "rustic_ai.llm_queue.resolver.QueueLLMResolver"
#: Required by upstream's LLMAgent, for attachments.
FILES = DependencySpec(
    class_name="rustic_ai.core.guild.agent_ext.depends.filesystem.FileSystemResolver",
    properties={"path_base": "/", "protocol": "memory", "storage_options": {}},
)
ASK = ChatCompletionRequest(messages=[UserMessage(content="Capital of France?")])
Heard = Callable[[type[BaseModel]], Message]
Ask = Callable[..., Heard]


class Note(BaseModel):
    text: str


class Question(BaseModel):
    text: str


class ReaderAgent(Agent[BaseAgentProps]):
    """Takes answers as upstream's agents do, by core's class."""

    @agent.processor(ChatCompletionResponse)
    def read(self, ctx: agent.ProcessContext[ChatCompletionResponse]) -> None:
        ctx.send(Note(text=f"read {ctx.payload.choices[0].message.content}"))


class AccountantAgent(Agent[BaseAgentProps]):
    """Takes answers by our class, for what they cost."""

    @agent.processor(QueueChatCompletionResponse)
    def account(self, ctx: agent.ProcessContext[QueueChatCompletionResponse]) -> None:
        tried = ", ".join(f"{attempt.model} {attempt.status}" for attempt in ctx.payload.attempts)
        ctx.send(Note(text=f"cost {ctx.payload.cost_usd}: {tried}"))


class AsyncAgent(Agent[BaseAgentProps]):
    """Awaits its completions."""

    @agent.processor(Question, depends_on=["llm"])
    async def ask(self, ctx: agent.ProcessContext[Question], llm: LLM) -> None:
        request = ChatCompletionRequest(messages=[UserMessage(content=ctx.payload.text)])
        answer = await llm.async_completion(request)
        ctx.send(Note(text=f"awaited {answer.choices[0].message.content}"))


@pytest.fixture
def ask_guild() -> Iterator[Ask]:
    """Launches a guild of these agents, publishes a message, and gives a way to hear the replies."""
    guilds: list[Guild] = []

    def ask(payload: BaseModel, *agents: AgentSpec[Any], **properties: Any) -> Heard:
        spec = DependencySpec(class_name=RESOLVER, properties={"model": "gpt-4", **properties})
        builder = GuildBuilder(f"guild-{uuid.uuid4()}", "Guild", "Asks")
        builder.add_dependency_resolver("llm", spec).add_dependency_resolver("filesystem", FILES)
        for each in agents:
            builder.add_agent_spec(each)
        guild = builder.launch("org")
        guilds.append(guild)
        probe = guild._add_local_agent(
            AgentBuilder(ProbeAgent).set_id("probe").set_name("Probe").set_description("Probes")
            .add_additional_topic("error_topic").build_spec()
        )  # fmt: skip
        assert isinstance(probe, ProbeAgent)
        probe.publish(guild.DEFAULT_TOPIC, payload)

        def heard(kind: type[BaseModel]) -> Message:
            name = get_qualified_class_name(kind)
            found = wait_until(
                lambda: [m for m in list(probe.received_messages) if m.format == name], what=f"a {name}"
            )
            return found[0]

        return heard

    yield ask
    for guild in guilds:
        guild.shutdown()


def spec_of(kind: type[Agent[Any]], properties: Any = None) -> AgentSpec[Any]:
    builder: AgentBuilder[Any, Any] = (
        AgentBuilder(kind).set_id(kind.__name__).set_name(kind.__name__).set_description("Works")
    )
    return (builder.set_properties(properties) if properties is not None else builder).build_spec()


def react() -> AgentSpec[Any]:
    return spec_of(ReActAgent, ReActAgentConfig(toolset=MathToolset()))


def simple() -> AgentSpec[Any]:
    # Without a memory it would forget the very question.
    return spec_of(SimpleLLMAgent, SimpleLLMAgentConf(chat_memory=1))


def error_of(message: Message) -> ChatCompletionError:
    return ChatCompletionError.model_validate(message.payload)


def test_an_llm_agents_answer_reaches_those_who_wait_for_cores_response(
    queue: InMemoryQueue, ask_guild: Ask
) -> None:
    queue.answer("Paris")
    heard = ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig()), spec_of(ReaderAgent))
    assert heard(Note).payload["text"] == "read Paris"


def test_a_processor_for_our_response_learns_what_the_answer_cost(
    queue: InMemoryQueue, ask_guild: Ask
) -> None:
    queue.answer("Paris", cost_usd=0.25)
    heard = ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig()), spec_of(AccountantAgent))
    assert heard(Note).payload["text"] == "cost 0.25: gpt-4 ok"


def test_the_answer_survives_the_guilds_messages(queue: InMemoryQueue, ask_guild: Ask) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    queue.answer("Paris", usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, **details})
    message = ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig()))(ChatCompletionResponse)

    as_core_reads_it = ChatCompletionResponse.model_validate(message.payload)
    assert as_core_reads_it.usage is not None
    assert as_core_reads_it.usage.total_tokens == 10
    ours = QueueChatCompletionResponse.model_validate(
        Message.model_validate_json(message.model_dump_json()).payload
    )
    assert ours.usage is not None
    assert ours.usage.model_dump()["prompt_tokens_details"] == {"cached_tokens": 4}
    assert ours.attempts[0].model == "gpt-4"


def test_an_agents_own_model_goes_before_the_resolvers(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer("Paris")
    ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig(model=Models.gpt_5_mini)))(ChatCompletionResponse)
    assert queue.calls[0].model == "gpt-5-mini"


def test_an_agents_empty_fields_leave_the_properties_in_place(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer("Paris")
    ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig()), timeout=42, temperature=0.1)(ChatCompletionResponse)
    assert queue.calls[0].params["temperature"] == 0.1
    assert queue.jobs[0].timeout_ms == 42_000


@pytest.mark.parametrize(
    ("kind", "provider_status", "expected"),
    [
        (ErrorKind.RATE_LIMIT, 429, ResponseCodes.RATE_LIMIT_ERROR),
        (ErrorKind.AUTHENTICATION, 401, ResponseCodes.AUTHENTICATION_ERROR),
        (ErrorKind.INTERNAL_SERVER, 529, ResponseCodes.INTERNAL_SERVER_ERROR),
        (ErrorKind.CONTEXT_WINDOW, 400, ResponseCodes.CONTEXT_WINDOW_EXCEEDED_ERROR),
        (ErrorKind.WORKER_LOST, None, ResponseCodes.INTERNAL_SERVER_ERROR),
        (ErrorKind.MODEL_NOT_ALLOWED, None, ResponseCodes.PERMISSION_DENIED_ERROR),
    ],
)
@pytest.mark.parametrize("agent_spec", [spec_of(LLMAgent, LLMAgentConfig()), react()], ids=["LLM", "ReAct"])
def test_agents_that_catch_status_errors_report_the_status(
    queue: InMemoryQueue,
    ask_guild: Ask,
    agent_spec: AgentSpec[Any],
    kind: ErrorKind,
    provider_status: int | None,
    expected: ResponseCodes,
) -> None:
    queue.fail(kind, "it went wrong", provider_status=provider_status)
    error = error_of(ask_guild(ASK, agent_spec)(ChatCompletionError))
    assert error.status_code == expected
    assert "it went wrong" in error.message
    assert error.response is not None
    assert "it went wrong" in error.response
    assert error.body is not None
    assert error.body["type"] == kind


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ErrorKind.CONNECTION, ResponseCodes.API_CONNECTION_ERROR),
        (ErrorKind.TIMEOUT, ResponseCodes.API_TIMEOUT_ERROR),
    ],
)
def test_the_react_agent_tells_timeouts_from_lost_connections(
    queue: InMemoryQueue, ask_guild: Ask, kind: ErrorKind, expected: ResponseCodes
) -> None:
    queue.fail(kind, "no answer")
    assert error_of(ask_guild(ASK, react())(ChatCompletionError)).status_code == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ErrorKind.RATE_LIMIT, ResponseCodes.RATE_LIMIT_ERROR),
        (ErrorKind.CONNECTION, ResponseCodes.API_CONNECTION_ERROR),
        (ErrorKind.TIMEOUT, ResponseCodes.API_TIMEOUT_ERROR),
        (ErrorKind.CONTENT_POLICY, ResponseCodes.CONTENT_POLICY_VIOLATION_ERROR),
        (ErrorKind.INVALID_RECORD, ResponseCodes.INTERNAL_SERVER_ERROR),
    ],
)
def test_the_simple_agent_reports_every_error_as_cores(
    queue: InMemoryQueue, ask_guild: Ask, kind: ErrorKind, expected: ResponseCodes
) -> None:
    queue.fail(kind, "it went wrong")
    error = error_of(ask_guild(SimpleChatMessage(content="Hi"), simple())(ChatCompletionError))
    assert error.status_code == expected
    assert error.model == "gpt-4"


def test_a_call_that_nobody_takes_ends_as_the_agents_timeout(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.hang()
    error = error_of(ask_guild(ASK, react(), timeout=0.2)(ChatCompletionError))
    assert error.status_code == ResponseCodes.API_TIMEOUT_ERROR
    assert queue.cancelled == [queue.jobs[0].id]


def test_the_simple_agent_answers(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer("Paris")
    heard = ask_guild(SimpleChatMessage(content="Hi"), simple())
    assert heard(SimpleChatResponse).payload["content"] == "Paris"


def test_the_react_agent_calls_its_tools(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer(tool_calls={"calculate": {"expression": "6 * 7"}}).answer("It is 42.")
    message = ask_guild(ASK, react())(ChatCompletionResponse)
    answer = ChatCompletionResponse.model_validate(message.payload)
    assert answer.choices[0].message.content == "It is 42."
    result = queue.calls[1].params["messages"][-1]
    assert result["role"] == "tool"
    assert "42" in result["content"]


def test_an_async_processor_awaits_its_answer(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer("Paris")
    assert ask_guild(Question(text="Capital?"), spec_of(AsyncAgent))(Note).payload["text"] == "awaited Paris"


def test_jobs_carry_their_agents_name(queue: InMemoryQueue, ask_guild: Ask) -> None:
    queue.answer("Paris")
    ask_guild(ASK, spec_of(LLMAgent, LLMAgentConfig()))(ChatCompletionResponse)
    owner = queue.jobs[0].owner
    assert (owner.org, owner.guild[:6], owner.agent) == ("org", "guild-", "LLMAgent")
