"""What this release of LiteLLM does to streams and retries that would cost an answer its truth.

Each correction is small, holds for the exactly pinned release alone, and has a test against a provider.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.cohere.chat.v2_transformation import CohereV2ChatConfig
from litellm.llms.cohere.common_utils import CohereError
from litellm.llms.openai import openai as openai_handler
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

_DATA = "data:"
_DONE = "[DONE]"


def correct_litellm() -> None:
    """Apply all corrections. Doing it twice is safe."""
    # With `drop_params`, a 422 of OpenAI's is answered with a second POST; no option turns it off.
    setattr(openai_handler, "drop_params_from_unprocessable_entity_error", _raise_it)  # noqa: B010 - not exported
    # A broken chunk is skipped, and "[DONE]", even inside a text, counts as a finish reason.
    setattr(BaseModelResponseIterator, "_handle_string_chunk", _read_line)  # noqa: B010 - mypy forbids the plain form
    # Cohere's endings and tool calls are looked for in fields that Cohere does not send.
    setattr(CohereV2ChatConfig, "get_model_response_iterator", _cohere_stream)  # noqa: B010 - as above
    # Every chunk of Gemini's is said to be the last.
    if not hasattr(_gemini_choice, "original"):
        setattr(_gemini_choice, "original", VertexGeminiConfig._create_streaming_choice)  # noqa: B010 - as above
        setattr(VertexGeminiConfig, "_create_streaming_choice", staticmethod(_gemini_choice))  # noqa: B010 - as above


def _raise_it(error: Exception, data: object) -> object:
    raise error


def _read_line(self: BaseModelResponseIterator, str_line: str) -> GenericStreamingChunk | ModelResponseStream:
    """One line of server-sent events, or of newline-delimited JSON. Raises `JSONDecodeError`."""
    line = str_line.strip()
    payload = line.removeprefix(_DATA).strip() if line.startswith(_DATA) else line
    if not payload or payload == _DONE or not line.startswith((_DATA, "{")):
        return _nothing()
    return self.chunk_parser(json.loads(payload))


def _nothing() -> GenericStreamingChunk:
    return GenericStreamingChunk(
        text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
    )


def _gemini_choice(
    chat_completion_message: Any, candidate: Mapping[str, Any], *rest: Any, **named: Any
) -> Any:
    original: Callable[..., Any] = getattr(_gemini_choice, "original")  # noqa: B009 - a function's attribute
    choice = original(chat_completion_message, candidate, *rest, **named)
    if not candidate.get("finishReason"):
        choice.finish_reason = None
    return choice


def _cohere_stream(
    self: CohereV2ChatConfig, streaming_response: Any, sync_stream: bool, json_mode: bool | None = False
) -> BaseModelResponseIterator:
    return CohereStream(streaming_response, sync_stream, json_mode)


class CohereStream(BaseModelResponseIterator):
    """Cohere's v2 stream, read by its documentation."""

    def chunk_parser(self, chunk: dict[str, Any]) -> GenericStreamingChunk:
        """Raises `CohereError` for an error that comes inside the stream."""
        parsed = _nothing()
        parsed["index"] = 0
        delta = chunk.get("delta") or {}
        message = delta.get("message") or {}
        match chunk.get("type"):
            case "content-start" | "content-delta":
                content = message.get("content") or {}
                parsed["text"] = content.get("text") or ""
                if thinking := content.get("thinking"):
                    parsed["provider_specific_fields"] = {"reasoning_content": thinking}
            case "tool-call-start" | "tool-call-delta":
                parsed["tool_use"] = _cohere_call(message.get("tool_calls") or {}, chunk.get("index") or 0)
            case "message-end":
                if delta.get("error") or delta.get("finish_reason") in ("ERROR", "TIMEOUT"):
                    raise _cohere_error(delta.get("error") or delta["finish_reason"])
                parsed["finish_reason"] = delta.get("finish_reason") or ""
                parsed["is_finished"] = bool(parsed["finish_reason"])
                parsed["usage"] = _cohere_usage(delta.get("usage") or {})
            case None if "message" in chunk:
                raise _cohere_error(chunk["message"])
        return parsed


def _cohere_error(what: object) -> Exception:
    make: Callable[..., Exception] = CohereError
    return make(500, str(what))


def _cohere_call(call: Mapping[str, Any], index: int) -> Any:
    function = call.get("function") or {}
    return {
        "index": index,
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": function.get("arguments") or ""},
    }


def _cohere_usage(usage: Mapping[str, Any]) -> Any:
    tokens = usage.get("tokens") or {}
    prompt, completion = int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0)
    if not tokens:
        return None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
