from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from pydantic import BaseModel, Field
from rustic_ai.core.guild import Agent, agent
from rustic_ai.core.guild.agent_ext.depends.llm import LLM
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionError,
    ChatCompletionRequest,
    ResponseCodes,
    SystemMessage,
)
from rustic_ai.core.guild.dsl import BaseAgentProps
from rustic_ai.core.messaging import Priority
from rustic_ai.core.utils import GemstoneGenerator, GemstoneID

from ..exceptions import QueueError
from ..llm import QueueLLM
from ..stream import CompletionStream
from .text_updates import UPDATE_FORMAT, TextUpdates


class StreamingLLMAgentConfig(BaseAgentProps):
    """The properties of a `StreamingLLMAgent` in its guild's specification."""

    model: str | None = Field(None, description="in place of the resolver's model")
    default_system_prompt: str | None = Field(None, description="goes before every request")


class CancelStream(BaseModel):
    """Tells a `StreamingLLMAgent` to stop answering; what is not written yet is not paid for."""

    #: The `updateId` of the answer's updates; without it, all that the agent is writing.
    update_id: str | None = None


class StreamingLLMAgent(Agent[StreamingLLMAgentConfig]):
    """Answers a `ChatCompletionRequest` in the guild as its words come.

    Sends text updates that Rustic's UI appends to one message (after a restart, the first one
    replaces it), and the `ChatCompletionResponse` at the end, or a `ChatCompletionError`. Several
    requests are answered side by side. A `CancelStream` message ends them.
    """

    def __init__(self) -> None:
        self._streams: dict[str, CompletionStream] = {}
        self._id_generator = _SharedIds(self._id_generator.machine_id)

    @agent.processor(ChatCompletionRequest, depends_on=["llm"])
    def answer(self, ctx: agent.ProcessContext[ChatCompletionRequest], llm: LLM) -> None:
        """Begin to answer, and be ready for the next message."""
        if not isinstance(llm, QueueLLM):
            raise TypeError(f"give this agent's llm as a QueueLLMResolver; it is a {type(llm).__name__}")
        try:
            stream = llm.stream(self._request(ctx.payload), self.config.model)
            stream.__enter__()
        except QueueError as error:
            _send_error(ctx, error)
            return
        self._streams[stream.job_id] = stream
        # Rustic brings an agent one message at a time: in here, a cancel would come too late.
        threading.Thread(
            target=self._write, args=(ctx, stream), name=f"stream-{stream.job_id}", daemon=True
        ).start()

    @agent.processor(CancelStream)
    def cancel(self, ctx: agent.ProcessContext[CancelStream]) -> None:
        """Stop what is being written; its end is reported as an error of status 409."""
        wanted = ctx.payload.update_id
        for job_id, stream in list(self._streams.items()):
            if wanted in (None, job_id):
                stream.cancel()

    def _request(self, request: ChatCompletionRequest) -> ChatCompletionRequest:
        prompt = self.config.default_system_prompt
        if prompt is None:
            return request
        return request.model_copy(update={"messages": [SystemMessage(content=prompt), *request.messages]})

    def _write(self, ctx: agent.ProcessContext[ChatCompletionRequest], stream: CompletionStream) -> None:
        try:
            with ExitStack() as leaving:
                # Should the guild be gone, leaving the stream cancels the job.
                leaving.push(stream)
                updates = TextUpdates(stream.job_id)
                for chunk in stream:
                    _send_update(ctx, updates.add(chunk))
                _send_update(ctx, updates.end())
                ctx.send(stream.response)
        except QueueError as error:
            _send_error(ctx, error)
        except Exception:
            self.logger.exception("The answer of job %s could not be sent on", stream.job_id)
        finally:
            self._streams.pop(stream.job_id, None)


class _SharedIds(GemstoneGenerator):
    """Message ids for several threads: core's generator gives two threads the same one."""

    def __init__(self, machine_id: int) -> None:
        super().__init__(machine_id)
        self._lock = threading.Lock()

    def get_id(self, priority: Priority) -> GemstoneID:
        with self._lock:
            return super().get_id(priority)


def _send_update(ctx: agent.ProcessContext[ChatCompletionRequest], update: dict[str, Any] | None) -> None:
    if update is not None:
        ctx.send_dict(update, format=UPDATE_FORMAT)


def _send_error(ctx: agent.ProcessContext[ChatCompletionRequest], error: QueueError) -> None:
    ctx.send_error(
        ChatCompletionError(
            status_code=ResponseCodes(error.status_code),
            message=str(error),
            response=error.response.text if error.response is not None else None,
            model=error.model,
            request_messages=ctx.payload.messages,
            body=error.body,
        )
    )
