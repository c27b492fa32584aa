"""Cohere v2 chat."""

from collections.abc import Iterator
from typing import Any

from support.providers.provider_answer import Answer, Event, argument_pieces
from support.providers.wire.base import Failure, Framing, Target, Wire, last_message, sse, whole_call

_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR"}


class CohereWire(Wire):
    """``POST /cohere/v2/chat``."""

    provider = "cohere"
    base_path = "/cohere/v2/chat"

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        if path != self.base_path:
            return None
        return Target(str(body.get("model", "")), body.get("stream") is True)

    def prompt(self, body: dict[str, Any]) -> str:
        return last_message(body.get("messages"))

    def choices(self, body: dict[str, Any]) -> int:
        return 1

    def whole(self, answer: Answer) -> dict[str, Any]:
        content = [{"type": "text", "text": answer.texts[0]}]
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if answer.tool_calls:
            message["tool_plan"] = ""
            message["tool_calls"] = [whole_call(call) for call in answer.tool_calls]
        reason = _reason(answer)
        return {"id": answer.id, "finish_reason": reason, "message": message, "usage": _usage(answer)}

    def events(self, answer: Answer) -> Iterator[Event]:
        opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield _event("message-start", {"id": answer.id, "delta": {"message": opening}})
        if answer.texts[0] or not answer.tool_calls:
            yield _event("content-start", _content({"type": "text", "text": ""}))
            for piece in answer.pieces(answer.texts[0]):
                yield _event("content-delta", _content({"text": piece}), piece, content=True)
            yield _event("content-end", {"index": 0})
        for position, call in enumerate(answer.tool_calls):
            start = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            yield _event("tool-call-start", _tool(position, start), content=True)
            for piece in argument_pieces(call.arguments):
                delta = _tool(position, {"function": {"arguments": piece}})
                yield _event("tool-call-delta", delta, content=True)
            yield _event("tool-call-end", {"index": position})
        if answer.with_reason:
            ending = {"finish_reason": _reason(answer), "usage": _usage(answer)}
            yield _event("message-end", {"id": answer.id, "delta": ending})

    def framing(self, accept: str) -> Framing:
        # Cohere sends server-sent events to those who ask for them; LiteLLM does not, and reads
        # the newline-delimited form alone.
        if "text/event-stream" in accept:
            return super().framing(accept)
        return Framing("application/stream+json", _without_event_names)

    def error(self, failure: Failure) -> dict[str, Any]:
        return {"id": "stub", "message": failure.message}


def _without_event_names(event: bytes) -> bytes:
    return event.partition(b"data: ")[2].rstrip(b"\n") + b"\n"


def _event(kind: str, fields: dict[str, Any], text: str = "", *, content: bool = False) -> Event:
    return Event(sse({"type": kind, **fields}, event=kind), text, 0, content)


def _content(content: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": {"message": {"content": content}}}


def _tool(position: int, call: dict[str, Any]) -> dict[str, Any]:
    return {"index": position, "delta": {"message": {"tool_calls": call}}}


def _reason(answer: Answer) -> str | None:
    return _FINISH.get(answer.finish_reason, answer.finish_reason) if answer.with_reason else None


def _usage(answer: Answer) -> dict[str, Any]:
    counts = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens}
    return {"billed_units": counts, "tokens": counts}
