from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from ..litellm_api import seam
from .answer_form import lift_provider_fields
from .finish_reasons import NATIVE_REASON, OPENAI_REASONS, openai_reason
from .json_value import without_none
from .tool_calls import ToolCallNumbers


class ChunkReader:
    """Makes what a provider's stream yields OpenAI `chat.completion.chunk` objects, JSON-able and whole."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id: str | None = None
        self._made_up_id = f"chatcmpl-{uuid.uuid4()}"
        self._created: int | None = None
        self._tool_calls: dict[int, ToolCallNumbers] = {}
        self._finished: set[int] = set()

    def read(self, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        """One chunk of what came, in OpenAI's form and mended; None when it has no content."""
        choices = [choice for entry in raw.get("choices") or () if (choice := self._choice(entry))]
        usage = _usage(raw.get("usage"))
        if not choices and usage is None:
            return None
        chunk = self._chunk(choices, raw)
        if usage is not None:
            chunk["usage"] = usage
        return chunk

    def ending(self) -> dict[str, Any]:
        """A last chunk with a finish reason, for a stream of which it is known that it is whole."""
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return self._chunk([choice], {})

    def _chunk(self, choices: list[dict[str, Any]], raw: Mapping[str, Any]) -> dict[str, Any]:
        # Some providers name no id, and LiteLLM makes up another one with every chunk.
        self._id = self._id or raw.get("id") or self._made_up_id
        self._created = self._created or raw.get("created") or int(time.time())
        chunk: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": raw.get("model") or self._model,
            "choices": choices,
        }
        for name in ("system_fingerprint", "service_tier", "citations"):
            if raw.get(name) is not None:
                chunk[name] = raw[name]
        return chunk

    def _choice(self, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        index = entry.get("index", 0)
        delta = _delta(entry.get("delta") or {})
        reason = entry.get("finish_reason")
        if index in self._finished:
            # Some providers repeat the reason with every chunk that follows.
            reason = None
        if delta.get("tool_calls"):
            calls = self._tool_calls.setdefault(index, ToolCallNumbers())
            delta["tool_calls"] = [calls.placed(piece) for piece in delta["tool_calls"]]
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": None}
        if entry.get("logprobs"):
            choice["logprobs"] = without_none(entry["logprobs"])
        if reason:
            self._finished.add(index)
            choice["finish_reason"] = self._reason(reason, index)
            if native := _native_reason(entry):
                choice["provider_specific_fields"] = {NATIVE_REASON: native}
        return choice if delta or reason or "logprobs" in choice else None

    def _reason(self, reason: str, index: int) -> str:
        meant = openai_reason(reason)
        known = meant if meant in OPENAI_REASONS else str(seam.map_finish_reason(meant))
        return "tool_calls" if known == "stop" and index in self._tool_calls else known


def _native_reason(entry: Mapping[str, Any]) -> str | None:
    """The provider's own word for the ending, where it is not OpenAI's."""
    fields = entry.get("provider_specific_fields") or {}
    native = entry.get(NATIVE_REASON) or fields.get(NATIVE_REASON)
    return native if isinstance(native, str) and native not in OPENAI_REASONS else None


def _delta(raw: Mapping[str, Any]) -> dict[str, Any]:
    delta = {name: without_none(value) for name, value in raw.items() if value not in (None, [], {})}
    lift_provider_fields(delta)
    if "thinking_blocks" in delta:
        # A place in the stream, which has no meaning in a whole answer.
        delta["thinking_blocks"] = [
            {name: value for name, value in block.items() if name != "index"}
            for block in delta["thinking_blocks"]
        ]
    if "reasoning" in delta and isinstance(delta["reasoning"], str):
        # OpenRouter's and newer vLLM's name for it.
        delta.setdefault("reasoning_content", delta.pop("reasoning"))
    if delta.get("content") == "":
        del delta["content"]
    return delta


def _usage(raw: Any) -> dict[str, Any] | None:
    # LiteLLM fills a usage it does not know yet with zeros.
    return without_none(raw) if raw and (raw.get("prompt_tokens") or raw.get("completion_tokens")) else None
