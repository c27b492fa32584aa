"""Anthropic's text completions, the API of its models before Claude 3."""

from collections.abc import Iterator
from typing import Any

from support.providers.provider_answer import Answer, Event
from support.providers.wire.base import Failure, Target, Wire, sse


class AnthropicTextWire(Wire):
    """``POST /anthropic/v1/complete``."""

    provider = "anthropic"
    base_path = "/anthropic"

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        if path != f"{self.base_path}/v1/complete":
            return None
        return Target(str(body.get("model", "")), body.get("stream") is True)

    def prompt(self, body: dict[str, Any]) -> str:
        return str(body.get("prompt", "")).rpartition("\n\nHuman:")[2].partition("\n\nAssistant:")[0].strip()

    def whole(self, answer: Answer) -> dict[str, Any]:
        return {
            "type": "completion",
            "id": answer.id,
            "completion": answer.texts[0],
            "stop_reason": "stop_sequence",
        }

    def events(self, answer: Answer) -> Iterator[Event]:
        for piece in answer.pieces(answer.texts[0]):
            body = {"type": "completion", "completion": piece, "stop_reason": None}
            yield Event(sse(body, event="completion"), piece, 0, True)
        ending = {"type": "completion", "completion": "", "stop_reason": "stop_sequence"}
        yield Event(sse(ending, event="completion"), "", 0, False)

    def error(self, failure: Failure) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": failure.message}}
