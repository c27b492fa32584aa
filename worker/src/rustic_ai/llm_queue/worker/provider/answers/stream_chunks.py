from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from litellm import CustomStreamWrapper
from openai.types.chat import ChatCompletionChunk

from ..litellm_api import seam
from .answer_form import lift_provider_fields
from .finish_reasons import NATIVE_REASON, OPENAI_REASONS, openai_reason
from .json_value import Cleaner
from .openai_form import mend_openai_form
from .tool_calls import ToolCallNumbers


class ChunkReader:
    """Reads what a provider's stream yields as OpenAI `chat.completion.chunk` objects, JSON-able and whole.

    LiteLLM's own wrapper looks at the first choice only, drops refusals, and invents a finish
    reason where the provider gave none; so the chunks are read below it wherever their form is known.
    """

    def __init__(self, wrapper: CustomStreamWrapper, model: str) -> None:
        self._wrapper = wrapper
        self._model = model
        self._id: str | None = None
        self._made_up_id = f"chatcmpl-{uuid.uuid4()}"
        self._created: int | None = None
        self._tool_calls: dict[int, ToolCallNumbers] = {}
        self._finished: set[int] = set()
        # What did not come as lines of JSON has not been cleaned yet.
        self._cleaner = Cleaner()

    def read(self, item: Any) -> dict[str, Any] | None:
        """One chunk, or None when the item has no content. Raises what LiteLLM makes of an odd one."""
        if isinstance(item, ChatCompletionChunk | seam.ModelResponseStream):
            raw = item.model_dump(exclude_none=True)
        elif isinstance(item, Mapping) and "is_finished" in item:
            raw = _from_generic(item)
        else:
            processed = self._wrapper.chunk_creator(chunk=item)
            if processed is None:
                return None
            raw = processed.model_dump(exclude_none=True)
        cleaned: dict[str, Any] = self._cleaner.clean(raw)
        # LiteLLM passes on what it has read of other forms, whatever its type.
        mend_openai_form(cleaned, streamed=True)
        return self._plain(cleaned)

    def ending(self) -> dict[str, Any]:
        """A last chunk with a finish reason, for a stream of which it is known that it is whole."""
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return self._chunk([choice], {})

    def _plain(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        choices = [choice for entry in raw.get("choices") or () if (choice := self._choice(entry))]
        usage = _usage(raw.get("usage"))
        if not choices and usage is None:
            return None
        chunk = self._chunk(choices, raw)
        if usage is not None:
            chunk["usage"] = usage
        return chunk

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
            choice["logprobs"] = entry["logprobs"]
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
    delta = {name: value for name, value in raw.items() if value not in (None, [], {})}
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
    return dict(raw) if raw and (raw.get("prompt_tokens") or raw.get("completion_tokens")) else None


def _from_generic(item: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's own form of a chunk, which several providers' parsers return."""
    delta: dict[str, Any] = {"content": item.get("text") or ""}
    if tool := item.get("tool_use"):
        delta["tool_calls"] = [dict(tool)]
    if fields := dict(item.get("provider_specific_fields") or {}):
        if reasoning := fields.pop("reasoning_content", None):
            delta["reasoning_content"] = reasoning
        delta["provider_specific_fields"] = fields
    reason = item.get("finish_reason") if item.get("is_finished") else None
    choice = {"index": item.get("index") or 0, "delta": delta, "finish_reason": reason or None}
    return {"choices": [choice], "usage": item.get("usage")}
