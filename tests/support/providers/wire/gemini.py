"""Google Gemini ``generateContent`` and ``streamGenerateContent``."""

import json
import re
from collections.abc import Iterator
from typing import Any

from support.providers.provider_answer import Answer, Event
from support.providers.wire.base import Failure, Target, Wire, last_message, sse

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GeminiWire(Wire):
    """``POST /gemini/v1beta/models/MODEL:generateContent`` and ``:streamGenerateContent?alt=sse``."""

    provider = "gemini"
    base_path = "/gemini/v1beta"
    _PATH = re.compile(r"/gemini(?:/v1(?:beta)?)?/models/([^/:]+):(generateContent|streamGenerateContent)")

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        match = self._PATH.fullmatch(path)
        return Target(match[1], match[2] == "streamGenerateContent") if match else None

    def prompt(self, body: dict[str, Any]) -> str:
        contents = [one for one in body.get("contents") or [] if isinstance(one, dict)]
        spoken = [{"role": one.get("role") or "user", "content": one.get("parts")} for one in contents]
        return last_message(spoken)

    def choices(self, body: dict[str, Any]) -> int:
        config = body.get("generationConfig") or body.get("generation_config") or {}
        return int(config.get("candidateCount") or config.get("candidate_count") or 1)

    def whole(self, answer: Answer) -> dict[str, Any]:
        candidates = []
        for index, text in enumerate(answer.texts):
            parts: list[dict[str, Any]] = []
            if answer.reasoning is not None:
                parts.append({"text": answer.reasoning, "thought": True})
            if text or not answer.tool_calls:
                parts.append({"text": text})
            parts.extend(_calls(answer))
            candidates.append(_candidate(parts, index, _reason(answer)))
        return self._envelope(answer, candidates)

    def events(self, answer: Answer) -> Iterator[Event]:
        for piece in answer.pieces(answer.reasoning or ""):
            part = {"text": piece, "thought": True}
            yield Event(sse(self._envelope(answer, [_candidate([part], 0, None)])), content=True)
        for index, text in enumerate(answer.texts):
            for piece in answer.pieces(text):
                data = self._envelope(answer, [_candidate([{"text": piece}], index, None)])
                yield Event(sse(data), piece, index, content=True)
        if answer.tool_calls:
            data = self._envelope(answer, [_candidate(_calls(answer), 0, None)])
            yield Event(sse(data), content=True)
        # Gemini has no ending of its own: the last candidate's finishReason is all there is.
        endings = [_candidate([{"text": ""}], index, _reason(answer)) for index in range(len(answer.texts))]
        yield Event(sse(self._envelope(answer, endings)))

    def error(self, failure: Failure) -> dict[str, Any]:
        details: list[dict[str, Any]] = []
        if failure.retry_after_s is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{failure.retry_after_s:g}s"})
        if failure.code == "API_KEY_INVALID":
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": failure.code, "domain": "googleapis.com"})
        error = {"code": failure.status, "message": failure.message, "details": details}
        return {"error": error | {"status": _STATUS.get(failure.status, "UNKNOWN")}}

    def _envelope(self, answer: Answer, candidates: list[dict[str, Any]]) -> dict[str, Any]:
        data: dict[str, Any] = {"candidates": candidates}
        data |= {"modelVersion": answer.model, "responseId": answer.id}
        # Every chunk carries the counts, not the last alone.
        usage = {
            "promptTokenCount": answer.prompt_tokens,
            "candidatesTokenCount": answer.completion_tokens - answer.reasoning_tokens,
            "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
        }
        if answer.reasoning_tokens:
            usage["thoughtsTokenCount"] = answer.reasoning_tokens
        if answer.cached_tokens:
            usage["cachedContentTokenCount"] = answer.cached_tokens
        return data | {"usageMetadata": usage}


def _candidate(parts: list[dict[str, Any]], index: int, reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": index}
    if reason is not None:
        candidate["finishReason"] = reason
    return candidate


def _reason(answer: Answer) -> str | None:
    return _FINISH.get(answer.finish_reason, answer.finish_reason) if answer.with_reason else None


def _calls(answer: Answer) -> list[dict[str, Any]]:
    calls = [{"name": call.name, "args": json.loads(call.arguments)} for call in answer.tool_calls]
    return [{"functionCall": call} for call in calls]
