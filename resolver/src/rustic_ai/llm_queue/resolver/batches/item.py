from __future__ import annotations

from dataclasses import dataclass

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from ..response import QueueChatCompletionResponse


@dataclass(frozen=True)
class BatchItem[T = ChatCompletionRequest, A = QueueChatCompletionResponse]:
    """One request of a batch, and what became of it: a response or an error."""

    #: Its place among the requests, from 0.
    index: int
    request: T
    response: A | None = None
    #: What `QueueLLM.completion` would have raised.
    error: Exception | None = None

    def result(self) -> A:
        """The response. Raises the error if there is none."""
        if self.response is not None:
            return self.response
        assert self.error is not None
        raise self.error


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch has come."""

    done: int
    #: Those among them that ended with an error.
    failed: int
    in_flight: int
    #: None when the requests are not known beforehand.
    total: int | None
