"""What the integration tests say to a `QueueLLM`."""

from collections.abc import Callable
from typing import Any

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from rustic_ai.llm_queue.resolver import QueueLLM

MakeLLM = Callable[..., QueueLLM]


def ask(text: str, **fields: Any) -> ChatCompletionRequest:
    """A request with one user message."""
    return ChatCompletionRequest(messages=[UserMessage(content=text)], **fields)
