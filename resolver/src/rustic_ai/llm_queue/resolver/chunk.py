from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from rustic_ai.core.guild.agent_ext.depends.llm.models import FinishReason

from .response import QueueUsage, finish_reason, usage_json


def _reason(raw: object) -> FinishReason | None:
    return None if raw is None else finish_reason(raw)


def _usage(raw: Any) -> Any:
    return usage_json(raw) if isinstance(raw, dict) else raw


class _Part(BaseModel):
    # Providers have fields of their own, which were paid for.
    model_config = ConfigDict(extra="allow", frozen=True)


class FunctionDelta(_Part):
    """A piece of a tool call: the name comes once, the arguments in pieces of JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(_Part):
    """A piece of one of the tool calls; `index` is that call's."""

    index: int = 0
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class ChoiceDelta(_Part):
    """What a chunk adds to a choice's message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(_Part):
    """What a chunk adds to one choice."""

    index: int = 0
    delta: ChoiceDelta = Field(default_factory=ChoiceDelta)
    finish_reason: Annotated[FinishReason | None, BeforeValidator(_reason)] = None
    logprobs: Any = None


class ChatCompletionChunk(_Part):
    """A piece of a streamed chat completion, in OpenAI's form."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str = ""
    choices: list[ChunkChoice] = Field(default_factory=list)
    #: A running total, in the chunks that bring one: mostly the last.
    usage: Annotated[QueueUsage | None, BeforeValidator(_usage)] = None
    #: Everything before this chunk is void: the attempt failed after it had begun to answer.
    restarted: bool = False

    @property
    def text(self) -> str:
        """What it adds to the first choice's content."""
        return "".join(choice.delta.content or "" for choice in self.choices if choice.index == 0)
