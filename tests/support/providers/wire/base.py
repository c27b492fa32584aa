"""What the simulator needs to know of a provider's wire format."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from support.providers.provider_answer import Answer, Event
from support.providers.provider_plan import ToolCall, VectorFault


@dataclass(frozen=True)
class Target:
    """What a request asks for."""

    model: str
    stream: bool


@dataclass(frozen=True)
class Failure:
    """What went wrong, apart from how a provider says it."""

    status: int
    message: str
    code: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Framing:
    """The content type of a stream, and what becomes of a server-sent event in it."""

    content_type: str
    write: Callable[[bytes], bytes]


class Wire(ABC):
    """One provider's format."""

    provider: ClassVar[str]
    base_path: ClassVar[str]
    """What LiteLLM's ``api_base`` for this provider ends in."""

    @abstractmethod
    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        """What is asked for; None if the path is another provider's."""

    @abstractmethod
    def prompt(self, body: dict[str, Any]) -> str:
        """The text of the last message."""

    @abstractmethod
    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of an answer that is not streamed."""

    def reply(self, answer: Answer, body: dict[str, Any], vectors: VectorFault | None) -> dict[str, Any]:
        """The same for a request that has its say in the answer's form."""
        return self.whole(answer)

    @abstractmethod
    def events(self, answer: Answer) -> Iterator[Event]:
        """The stream of an answer, one event a piece."""

    @abstractmethod
    def error(self, failure: Failure) -> dict[str, Any]:
        """The body of an error."""

    def framing(self, accept: str) -> Framing:
        """How a stream is framed for a client that sent this ``Accept`` header."""
        return Framing("text/event-stream", lambda event: event)

    def error_event(self, message: str) -> bytes:
        """An error inside a stream."""
        return sse(self.error(Failure(500, message)))

    def choices(self, body: dict[str, Any]) -> int:
        """How many answers are wanted."""
        return int(body.get("n") or 1)

    def wants_usage(self, body: dict[str, Any]) -> bool:
        """Whether a stream tells its token counts."""
        return True


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event; text goes out as it is, all else as JSON."""
    payload = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {payload}\n\n".encode()


def flat_text(content: object) -> str:
    """The text of a message's content, which may be a list of parts."""
    match content:
        case str():
            return content
        case list():
            return " ".join(text for text in map(flat_text, content) if text)
        case {"text": str(text)}:
            return text
        case {"content": inner}:
            return flat_text(inner)
    return ""


def last_message(messages: object) -> str:
    """The text of the last user message, or of the last message if no user speaks."""
    if not isinstance(messages, list):
        return ""
    spoken = [one for one in messages if isinstance(one, dict)]
    by_user = [one for one in spoken if one.get("role") == "user" and flat_text(one.get("content"))]
    return flat_text((by_user or spoken or [{}])[-1].get("content"))


def whole_call(call: ToolCall) -> dict[str, Any]:
    """A tool call that is not streamed, as OpenAI and Cohere write it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
