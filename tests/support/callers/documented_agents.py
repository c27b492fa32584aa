"""The agents of the LiteLLMResolver's page, in a module that an agent's own process can import.

What upstream has renamed since: `ChatMessage(role=...)` is `SystemMessage` and `UserMessage`,
`ImageURL` is `ImageUrl`, and `LLM` comes from core.
"""

import os
import time
from typing import Any

from pydantic import BaseModel
from rustic_ai.core.guild import Agent, agent
from rustic_ai.core.guild.agent_ext.depends.llm import LLM
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    SystemMessage,
    UserMessage,
)
from rustic_ai.core.guild.dsl import BaseAgentProps


class QueryRequest(BaseModel):
    query: str


class AsyncQueryRequest(BaseModel):
    query: str


def to_request(query: str) -> ChatCompletionRequest:
    return ChatCompletionRequest(
        messages=[SystemMessage(content="You are a helpful assistant."), UserMessage(content=query)]
    )


class LLMAgent(Agent[BaseAgentProps]):
    """The page's "Agent Usage" and "Asynchronous Usage"."""

    @agent.processor(clz=QueryRequest, depends_on=["llm"])
    def process_query(self, ctx: agent.ProcessContext[Any], llm: LLM) -> None:
        response = llm.completion(to_request(ctx.payload.query))
        assert response.usage is not None
        ctx.send_dict(
            {
                "response": response.choices[0].message.content,
                "model": response.model,
                "pid": os.getpid(),
                "usage": {
                    "prompt_tokens": response.usage.prompt_tokens,
                    "completion_tokens": response.usage.completion_tokens,
                    "total_tokens": response.usage.total_tokens,
                },
            }
        )

    @agent.processor(clz=AsyncQueryRequest, depends_on=["llm"])
    async def process_query_async(self, ctx: agent.ProcessContext[Any], llm: LLM) -> None:
        response = await llm.async_completion(to_request(ctx.payload.query))
        ctx.send_dict({"response": response.choices[0].message.content, "model": response.model})


class CautiousAgent(Agent[BaseAgentProps]):
    """The page's "Error Handling"."""

    @agent.processor(clz=QueryRequest, depends_on=["llm"])
    def process_query(self, ctx: agent.ProcessContext[Any], llm: LLM) -> None:
        request = to_request(ctx.payload.query)
        try:
            llm.completion(request)
        except Exception as e:
            error_message = str(e)
            if "rate limit" in error_message.lower():
                time.sleep(0.01)
                ctx.send_dict({"handled": "rate limit"})
            elif "context length" in error_message.lower():
                ctx.send_dict({"handled": "context length"})
            else:
                ctx.send_dict({"handled": "other", "error": error_message})
