"""Cohere's v2 streams, read by Cohere's documentation.

This release of LiteLLM looks for a stream's endings and tool calls in fields that Cohere does not send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        delta = chunk.get("delta") or {}
        message = delta.get("message") or {}
        match chunk.get("type"):
            case "content-start" | "content-delta":
                content = message.get("content") or {}
                parsed["text"] = content.get("text") or ""
                if thinking := content.get("thinking"):
                    parsed["provider_specific_fields"] = {"reasoning_content": thinking}
            case "tool-call-start" | "tool-call-delta":
                parsed["tool_use"] = _call(message.get("tool_calls") or {}, chunk.get("index") or 0)
            case "message-end":
                if delta.get("error") or delta.get("finish_reason") in _FAILED:
                    raise _error(delta.get("error") or delta["finish_reason"])
                parsed["finish_reason"] = delta.get("finish_reason") or ""
                parsed["is_finished"] = bool(parsed["finish_reason"])
                parsed["usage"] = _usage(delta.get("usage") or {})
            case None if "message" in chunk:
                raise _error(chunk["message"])
        return parsed


def _error(what: object) -> Exception:
    return seam.CohereError(500, str(what))


def _call(call: Mapping[str, Any], index: int) -> Any:
    function = call.get("function") or {}
    return {
        "index": index,
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": function.get("arguments") or ""},
    }


def _usage(usage: Mapping[str, Any]) -> Any:
    tokens = usage.get("tokens")
    if not tokens:
        return None
    prompt, completion = int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
