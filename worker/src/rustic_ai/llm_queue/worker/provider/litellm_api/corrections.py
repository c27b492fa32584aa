"""What this release of LiteLLM does to streams and retries that would cost an answer its truth.

Each correction is small, holds for the exactly pinned release alone, and has a test against a provider.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import httpx._models
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.cohere.chat.v2_transformation import CohereV2ChatConfig
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.llms.openai import openai as openai_handler
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

from ..answers.sse_lines import EventLines
from . import cohere_correction

_DATA = "data:"
_DONE = "[DONE]"
_gemini_choice_by_litellm: Callable[..., Any] = VertexGeminiConfig._create_streaming_choice


def correct_litellm() -> None:
    """Apply all corrections. Doing it twice is safe."""
    for owner, name, correction in (
        # An answer with a U+2028 in it, unescaped as JSON allows, is torn apart.
        (httpx._models, "LineDecoder", EventLines),
        # A connection that the provider reset, perhaps in the middle of its work, is answered with a
        # second POST, of which no attempt is on record.
        (AsyncHTTPHandler, "single_connection_post_request", _raise_what_failed),
        # With `drop_params`, a 422 of OpenAI's is answered with a second POST; no option turns it off.
        (openai_handler, "drop_params_from_unprocessable_entity_error", _raise_it),
        # A broken chunk is skipped, and "[DONE]", even inside a text, counts as a finish reason.
        (BaseModelResponseIterator, "_handle_string_chunk", _read_line),
        # Every chunk of Gemini's is said to be the last.
        (VertexGeminiConfig, "_create_streaming_choice", staticmethod(_gemini_choice)),
        (CohereV2ChatConfig, "transform_response", cohere_correction.read_answer),
        (CohereV2ChatConfig, "get_model_response_iterator", cohere_correction.read_stream),
    ):
        if not hasattr(owner, name):
            raise RuntimeError(f"this release of LiteLLM has no {name}: review the corrections for it")
        setattr(owner, name, correction)


def _raise_it(error: Exception, data: object) -> object:
    raise error


async def _raise_what_failed(*_: object, **__: object) -> object:
    failure = sys.exception()
    assert failure is not None, "LiteLLM calls this while it handles the first POST's failure"
    raise failure


def _read_line(self: BaseModelResponseIterator, str_line: str) -> GenericStreamingChunk | ModelResponseStream:
    """One line of server-sent events, or of newline-delimited JSON. Raises `JSONDecodeError`."""
    line = str_line.strip()
    payload = line.removeprefix(_DATA).strip() if line.startswith(_DATA) else line
    if not payload or payload == _DONE or not line.startswith((_DATA, "{")):
        return GenericStreamingChunk(
            text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
        )
    return self.chunk_parser(json.loads(payload))


def _gemini_choice(
    chat_completion_message: Any, candidate: Mapping[str, Any], *args: Any, **named: Any
) -> Any:
    choice = _gemini_choice_by_litellm(chat_completion_message, candidate, *args, **named)
    if not candidate.get("finishReason"):
        choice.finish_reason = None
    return choice
