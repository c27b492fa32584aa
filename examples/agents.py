"""The demo guild's agents. None of them knows of a queue: they ask an `LLM`, as always."""

from __future__ import annotations

from queue import SimpleQueue

from pydantic import BaseModel
from rustic_ai.core.agents.testutils.probe_agent import PublishMixin
from rustic_ai.core.guild import Agent, agent
from rustic_ai.core.guild.agent_ext.depends.llm import LLM
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    SystemMessage,
    UserMessage,
)
from rustic_ai.core.guild.dsl import BaseAgentProps
from rustic_ai.core.messaging.core import JsonDict
from rustic_ai.core.messaging.core.message import Message


class Question(BaseModel):
    """What one asks the guild."""

    text: str

    def request(self) -> ChatCompletionRequest:
        manner = SystemMessage(content="Answer in one short sentence.")
        return ChatCompletionRequest(messages=[manner, UserMessage(content=self.text)])


class Geographer(Agent[BaseAgentProps]):
    """Waits for its answers in a sync processor."""

    @agent.processor(Question, depends_on=["llm"])
    def answer(self, ctx: agent.ProcessContext[Question], llm: LLM) -> None:
        ctx.send(llm.completion(ctx.payload.request()))


class Naturalist(Agent[BaseAgentProps]):
    """Awaits its answers in an async processor."""

    @agent.processor(Question, depends_on=["llm"])
    async def answer(self, ctx: agent.ProcessContext[Question], llm: LLM) -> None:
        ctx.send(await llm.async_completion(ctx.payload.request()))


class Visitor(Agent[BaseAgentProps], PublishMixin):
    """Stands for whoever talks to the guild: publishes questions and hears all that is said."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[Message] = SimpleQueue()

    @agent.processor(JsonDict)
    def hear(self, ctx: agent.ProcessContext[JsonDict]) -> None:
        self.heard.put(ctx.message.model_copy(deep=True))
