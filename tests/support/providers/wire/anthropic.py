"""Anthropic messages."""

import json
from collections.abc import Iterator
from typing import Any

from support.providers.provider_answer import Answer, Event, argument_pieces
from support.providers.wire.base import Failure, Target, Wire, last_message, sse
from support.providers.wire.messages import CONTENT, CONTEXT

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicWire(Wire):
    """``POST /anthropic/v1/messages``."""

    provider = "anthropic"
    base_path = "/anthropic"

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        if path != "/anthropic/v1/messages":
            return None
        return Target(str(body.get("model", "")), body.get("stream") is True)

    def prompt(self, body: dict[str, Any]) -> str:
        return last_message(body.get("messages"))

    def choices(self, body: dict[str, Any]) -> int:
        return 1

    def whole(self, answer: Answer) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if answer.reasoning is not None:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2ln"})
        if answer.texts[0] or not answer.tool_calls:
            content.append({"type": "text", "text": answer.texts[0]})
        content.extend(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
            for call in answer.tool_calls
        )
        stop = self._stop(answer) if answer.with_reason else None
        return self._message(answer, self._usage(answer)) | {"content": content, "stop_reason": stop}

    def events(self, answer: Answer) -> Iterator[Event]:
        start = self._message(answer, self._usage(answer) | {"output_tokens": 1})
        yield _event("message_start", {"message": start})
        index = 0
        if answer.reasoning is not None:
            yield _block(index, {"type": "thinking", "thinking": ""})
            for piece in answer.pieces(answer.reasoning):
                yield _delta(index, {"type": "thinking_delta", "thinking": piece})
            yield _delta(index, {"type": "signature_delta", "signature": "c2ln"})
            yield _event("content_block_stop", {"index": index})
            index += 1
        if answer.texts[0] or not answer.tool_calls:
            yield _block(index, {"type": "text", "text": ""})
            yield _event("ping", {})
            for piece in answer.pieces(answer.texts[0]):
                yield _delta(index, {"type": "text_delta", "text": piece}, piece)
            yield _event("content_block_stop", {"index": index})
            index += 1
        for call in answer.tool_calls:
            yield _block(index, {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
            for piece in argument_pieces(call.arguments):
                yield _delta(index, {"type": "input_json_delta", "partial_json": piece})
            yield _event("content_block_stop", {"index": index})
            index += 1
        if answer.with_reason:
            ending = {"stop_reason": self._stop(answer), "stop_sequence": None}
            usage = {"output_tokens": answer.completion_tokens}
            yield _event("message_delta", {"delta": ending, "usage": usage})
        yield _event("message_stop", {})

    def error(self, failure: Failure) -> dict[str, Any]:
        own_code = None if failure.code in (CONTEXT, CONTENT) else failure.code
        kind = own_code or _TYPES.get(failure.status, "api_error")
        error = {"type": kind, "message": failure.message}
        return {"type": "error", "error": error, "request_id": "req_stub"}

    def error_event(self, message: str) -> bytes:
        return sse(self.error(Failure(529, message)), event="error")

    def _stop(self, answer: Answer) -> str:
        return _STOP.get(answer.finish_reason, answer.finish_reason)

    def _message(self, answer: Answer, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": f"msg_{answer.id}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _usage(self, answer: Answer) -> dict[str, int]:
        return {
            "input_tokens": answer.prompt_tokens - answer.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": answer.completion_tokens,
        }


def _event(kind: str, fields: dict[str, Any]) -> Event:
    return Event(sse({"type": kind, **fields}, event=kind))


def _block(index: int, block: dict[str, Any]) -> Event:
    return _event("content_block_start", {"index": index, "content_block": block})


def _delta(index: int, delta: dict[str, Any], text: str = "") -> Event:
    data = {"type": "content_block_delta", "index": index, "delta": delta}
    return Event(sse(data, event="content_block_delta"), text, 0, content=True)
