"""Cohere's v2 streams, read by Cohere's documentation.

This release of LiteLLM looks for a stream's endings and tool calls in fields that Cohere does not send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..answers.json_value import mapping
from . import seam

_FAILED = ("ERROR", "TIMEOUT")


def read_stream(
    self: Any, streaming_response: Any, sync_stream: bool, json_mode: bool | None = False
) -> CohereStream:
    """In the place of `CohereV2ChatConfig.get_model_response_iterator`."""
    return CohereStream(streaming_response, sync_stream, json_mode)


class CohereStream(seam.BaseModelResponseIterator):  # type: ignore[misc]  # the seam's names are untyped
    """The events of a stream, each as a chunk in LiteLLM's form."""

    def chunk_parser(self, chunk: dict[str, Any]) -> Any:
        """Raises `CohereError` for an error that comes inside the stream."""
        parsed = seam.GenericStreamingChunk(
            text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
        )
        delta = mapping(chunk.get("delta"))
        message = mapping(delta.get("message"))
        match chunk.get("type"):
            case "content-start" | "content-delta":
                content = mapping(message.get("content"))
                parsed["text"] = _text(content.get("text"))
                if thinking := _text(content.get("thinking")):
                    parsed["provider_specific_fields"] = {"reasoning_content": thinking}
            case "tool-call-start" | "tool-call-delta":
                parsed["tool_use"] = _call(mapping(message.get("tool_calls")), chunk.get("index"))
            case "message-end":
                if delta.get("error") or _text(delta.get("finish_reason")) in _FAILED:
                    raise _error(delta.get("error") or delta["finish_reason"])
                parsed["finish_reason"] = _text(delta.get("finish_reason"))
                parsed["is_finished"] = bool(parsed["finish_reason"])
                parsed["usage"] = _usage(mapping(delta.get("usage")))
            case None if "message" in chunk:
                raise _error(chunk["message"])
        return parsed


def _error(what: object) -> Exception:
    return seam.CohereError(500, str(what))


def _call(call: Mapping[str, Any], index: object) -> Any:
    function = mapping(call.get("function"))
    return {
        "index": index if type(index) is int else 0,
        "id": _text(call.get("id")) or None,
        "type": "function",
        "function": {
            "name": _text(function.get("name")) or None,
            "arguments": _text(function.get("arguments")),
        },
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _usage(usage: Mapping[str, Any]) -> Any:
    # Its counts are mended on their way in.
    tokens = mapping(usage.get("tokens"))
    if not tokens:
        return None
    prompt, completion = tokens.get("input_tokens") or 0, tokens.get("output_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
