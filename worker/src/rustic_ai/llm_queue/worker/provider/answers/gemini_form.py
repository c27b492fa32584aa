"""Gemini's most frequent event, more of a text, in OpenAI's form.

LiteLLM makes a dozen objects of each. It still reads every event that says anything else, the last one among
them, whose usage is the one that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EVENT = frozenset({"candidates", "modelVersion", "responseId", "usageMetadata"})
_CANDIDATE = frozenset({"content", "index"})
_CONTENT = frozenset({"parts", "role"})
_PART = frozenset({"text"})
_COUNTS = frozenset({"candidatesTokenCount", "promptTokenCount", "thoughtsTokenCount", "totalTokenCount"})
_USAGE = _COUNTS | {"promptTokensDetails"}


def plain_gemini_chunk(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chunk that LiteLLM would make of a mended event; None where that is more than a text that grows."""
    text = _text(event)
    if text is None:
        return None
    chunk: dict[str, Any] = {
        "id": event.get("responseId"),
        "model": event.get("modelVersion"),
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    if "usageMetadata" in event:
        usage = _usage(event["usageMetadata"])
        if usage is None:
            return None
        chunk["usage"] = usage
    return chunk


def _text(event: Mapping[str, Any]) -> str | None:
    candidates = event.get("candidates")
    if not event.keys() <= _EVENT or not isinstance(candidates, list) or len(candidates) != 1:
        return None
    if not all(isinstance(event.get(name, ""), str) for name in ("modelVersion", "responseId")):
        return None
    (candidate,) = candidates
    if (
        not isinstance(candidate, dict)
        or not candidate.keys() <= _CANDIDATE
        or candidate.get("index", 0) != 0
    ):
        return None
    content = candidate.get("content")
    if not isinstance(content, dict) or not content.keys() <= _CONTENT:
        return None
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts or not all(map(_is_text, parts)):
        return None
    return "".join(part["text"] for part in parts)


def _is_text(part: object) -> bool:
    if not isinstance(part, dict) or part.keys() != _PART:
        return False
    return isinstance(part["text"], str) and bool(part["text"])


def _usage(counts: object) -> dict[str, Any] | None:
    """OpenAI's counts for Gemini's, where they add up."""
    if not isinstance(counts, dict) or not counts.keys() <= _USAGE:
        return None
    if not all(type(counts[name]) is int for name in _COUNTS & counts.keys()):
        return None
    prompt, text = counts.get("promptTokenCount", 0), counts.get("candidatesTokenCount", 0)
    thoughts, total = counts.get("thoughtsTokenCount", 0), counts.get("totalTokenCount", 0)
    if total != prompt + text + thoughts or not text:
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": text + thoughts,
        "total_tokens": total,
        "completion_tokens_details": {"text_tokens": text},
        "prompt_tokens_details": {},
    }
    if thoughts:
        usage["completion_tokens_details"]["reasoning_tokens"] = thoughts
    if "promptTokensDetails" in counts:
        if not _is_all_text(counts["promptTokensDetails"], prompt):
            return None
        usage["prompt_tokens_details"]["text_tokens"] = prompt
    return usage


def _is_all_text(details: object, prompt_tokens: int) -> bool:
    return details == [{"modality": "TEXT", "tokenCount": prompt_tokens}]
