"""What this release of LiteLLM does to streams and retries that would cost an answer its truth.

Each correction is small, holds for the exactly pinned release alone, and has a test against a provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..failures.kinds import MalformedAnswer
from . import cohere_correction, seam

_DATA = "data:"
_DONE = "[DONE]"


def correct_litellm() -> None:
    """Apply all corrections. Doing it twice is safe."""
    # With `drop_params`, a 422 of OpenAI's is answered with a second POST; no option turns it off.
    seam.POST_WITH_FEWER_PARAMETERS.replace(_raise_it)
    # A broken chunk is skipped, and "[DONE]", even inside a text, counts as a finish reason.
    seam.HANDLE_STRING_CHUNK.replace(_read_line)
    # Every chunk of Gemini's claims to be the last.
    seam.GEMINI_CHOICE.replace(staticmethod(_gemini_choice))
    seam.COHERE_STREAM.replace(cohere_correction.read_stream)


def _raise_it(error: Exception, *_: object, **__: object) -> object:
    raise error


def _read_line(self: Any, str_line: str) -> Any:
    """One line of server-sent events, or of newline-delimited JSON. Raises `JSONDecodeError`."""
    line = str_line.strip()
    payload = line.removeprefix(_DATA).strip() if line.startswith(_DATA) else line
    if not payload or payload == _DONE or not line.startswith((_DATA, "{")):
        return seam.GenericStreamingChunk(
            text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
        )
    event = json.loads(payload)
    if not isinstance(event, dict):
        raise MalformedAnswer("the provider's stream holds an event that is not a JSON object")
    return self.chunk_parser(event)


def _gemini_choice(
    chat_completion_message: Any, candidate: Mapping[str, Any], *args: Any, **named: Any
) -> Any:
    choice = seam.GEMINI_CHOICE.original(chat_completion_message, candidate, *args, **named)
    if not candidate.get("finishReason"):
        choice.finish_reason = None
    return choice
