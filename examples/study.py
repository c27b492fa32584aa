from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any, Self

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.guild.dsl import DependencySpec
from rustic_ai.core.ui_protocol.types import TextFormat
from rustic_ai.core.utils.basic_class_utils import get_qualified_class_name

from agents import Question, Visitor
from failure import DemoFailed
from rustic_ai.llm_queue.resolver import QueueChatCompletionResponse, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.agents.text_updates import UPDATE_FORMAT
from stage import PRIMARY, SPARE

_TIMEOUT_S = 60.0
_ORGANIZATION = "demo"
#: What it is called in a guild: core's `ChatCompletionResponse`.
_ANSWER = get_qualified_class_name(QueueChatCompletionResponse)


@dataclass(frozen=True)
class Exchange:
    agent: str
    question: str
    answer: QueueChatCompletionResponse


class Study:
    """The guild of `guild.yaml`, with one visitor who asks, for as long as the `with` lasts."""

    def __init__(self, model: str | None) -> None:
        """Args:
        model: a provider's; None for the small local one.
        """
        properties = _properties(model)
        builder = GuildBuilder.from_yaml_file(str(Path(__file__).with_name("guild.yaml")))
        builder.add_dependency_resolver(
            "llm",
            DependencySpec(class_name="rustic_ai.llm_queue.resolver.QueueLLMResolver", properties=properties),
        )
        self._resolver = QueueLLMResolver(**properties)
        self._closed = threading.Event()
        self._guild = builder.launch(_ORGANIZATION)
        self._topics = {spec.name: spec.additional_topics[0] for spec in self._guild.list_agents()}
        spec: AgentBuilder[Any, Any] = (
            AgentBuilder(Visitor).set_id("visitor").set_name("Visitor").set_description("Asks the guild")
        )
        for topic in (*self._topics.values(), "error_topic"):
            spec.add_additional_topic(topic)
        visitor = self._guild._add_local_agent(spec.build_spec())
        assert isinstance(visitor, Visitor)
        self._visitor = visitor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._guild.shutdown()

    def llm_of(self, name: str) -> QueueLLM:
        """An agent's LLM, as it has it itself, or would have after a restart."""
        spec = self._guild.get_agent_by_name(name)
        assert spec is not None
        return self._resolver.resolve(_ORGANIZATION, self._guild.id, spec.id)

    def ask(self, questions: Mapping[str, Sequence[str]]) -> Iterator[Exchange]:
        """Ask the agents at the same time, each its questions in turn; answers come as they come.

        Raises `DemoFailed` when an agent reports an error, or nothing at all.
        """
        for name, texts in questions.items():
            # In a guild that is one process, messages are delivered by the thread that publishes them.
            threading.Thread(target=self._publish, args=(name, texts), daemon=True).start()
        for _ in range(sum(map(len, questions.values()))):
            yield self._next_answer()

    def watch(self, question: str) -> Iterator[TextFormat | Exchange]:
        """Ask the Writer: the updates of its text as they come, and at last the whole answer.

        Raises `DemoFailed` as `ask` does.
        """
        request = ChatCompletionRequest(messages=[UserMessage(content=question)])
        self._visitor.publish(self._topics["Writer"], request)
        heard: TextFormat | Exchange | None = None
        while not isinstance(heard, Exchange):
            heard = self._next_heard()
            if heard is not None:
                yield heard

    def _publish(self, name: str, texts: Sequence[str]) -> None:
        for text in texts:
            if not self._closed.is_set():
                self._visitor.publish(self._topics[name], Question(text=text))

    def _next_answer(self) -> Exchange:
        while not isinstance(heard := self._next_heard(), Exchange):
            pass
        return heard

    def _next_heard(self) -> TextFormat | Exchange | None:
        """None for what is neither an update nor an answer, such as the questions."""
        try:
            message = self._visitor.heard.get(timeout=_TIMEOUT_S + 30)
        except Empty:
            raise DemoFailed(f"no agent has said anything for {_TIMEOUT_S + 30:g} s") from None
        if message.is_error_message:
            reason = message.payload.get("error_message") or message.payload.get("message")
            raise DemoFailed(f"{message.sender.name}: {reason}")
        if message.format == UPDATE_FORMAT:
            return TextFormat.model_validate(message.payload)
        if message.format == _ANSWER:
            answer = QueueChatCompletionResponse.model_validate(message.payload)
            return Exchange(str(message.sender.name), _question_of(answer), answer)
        return None


def _properties(model: str | None) -> dict[str, Any]:
    if model is None:
        return {
            "model": PRIMARY,
            "fallback_models": [SPARE],
            "max_retries": 1,
            "temperature": 0.0,
            "max_tokens": 150,
            "timeout": _TIMEOUT_S,
        }
    # Null is "do not send": some models refuse one or the other of these.
    left_out = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    return {"model": model, "timeout": _TIMEOUT_S, **dict.fromkeys(left_out)}


def _question_of(answer: QueueChatCompletionResponse) -> str:
    return str(answer.input_messages[-1].content) if answer.input_messages else ""
