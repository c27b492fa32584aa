"""OpenAI chat completions, and the two that speak nearly the same."""

import re
from collections.abc import Iterator
from typing import Any

from support.providers.provider_answer import Answer, Event, argument_pieces
from support.providers.wire.base import Failure, Target, Wire, last_message, sse, whole_call
from support.providers.wire.messages import CONTENT

_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


class OpenAIWire(Wire):
    """``POST /v1/chat/completions``."""

    provider = "openai"
    base_path = "/v1"

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        if path != f"{self.base_path}/chat/completions":
            return None
        return Target(str(body.get("model", "")), body.get("stream") is True)

    def prompt(self, body: dict[str, Any]) -> str:
        return last_message(body.get("messages"))

    def wants_usage(self, body: dict[str, Any]) -> bool:
        return bool((body.get("stream_options") or {}).get("include_usage"))

    def whole(self, answer: Answer) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [
                {
                    "index": index,
                    "message": self._message(answer, text),
                    "logprobs": None,
                    "finish_reason": answer.finish_reason if answer.with_reason else None,
                }
                for index, text in enumerate(answer.texts)
            ],
            "usage": self._usage(answer),
            "service_tier": answer.service_tier,
            "system_fingerprint": "fp_stub",
        }

    def events(self, answer: Answer) -> Iterator[Event]:
        for index in range(len(answer.texts)):
            yield self._chunk(answer, index, {"role": "assistant", "content": "", "refusal": None})
        for piece in answer.pieces(answer.reasoning or ""):
            yield self._chunk(answer, 0, {"reasoning_content": piece}, content=True)
        for piece in answer.pieces(answer.refusal or ""):
            yield self._chunk(answer, 0, {"refusal": piece}, content=True)
        # Choices come interleaved, as from the real service.
        queues = [answer.pieces(text) for text in answer.texts]
        for turn in range(max(map(len, queues), default=0)):
            for index, queue in enumerate(queues):
                if turn < len(queue):
                    yield self._chunk(answer, index, {"content": queue[turn]}, text=queue[turn], content=True)
        yield from self._tool_call_chunks(answer)
        if answer.with_reason:
            for index in range(len(answer.texts)):
                yield self._chunk(answer, index, {}, finish=answer.finish_reason)
        if answer.include_usage:
            yield Event(sse(self._envelope(answer, []) | {"usage": self._usage(answer)}))
        yield Event(sse("[DONE]"))

    def error(self, failure: Failure) -> dict[str, Any]:
        codes: dict[int | str, str] = {CONTENT: "content_policy_violation"}
        codes |= {401: "invalid_api_key", 429: "rate_limit_exceeded", 404: "model_not_found"}
        kind = _TYPES.get(failure.status, "server_error")
        code = codes.get(failure.code or failure.status, failure.code)
        return {"error": {"message": failure.message, "type": kind, "param": None, "code": code}}

    def _message(self, answer: Answer, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": answer.refusal}
        if answer.reasoning is not None:
            message["reasoning_content"] = answer.reasoning
        if answer.tool_calls:
            message["tool_calls"] = [whole_call(call) for call in answer.tool_calls]
        return message

    def _tool_call_chunks(self, answer: Answer) -> Iterator[Event]:
        for position, call in enumerate(answer.tool_calls):
            opening = {"name": call.name, "arguments": ""}
            first = {"index": position, "id": call.id, "type": "function", "function": opening}
            yield self._chunk(answer, 0, {"tool_calls": [first]}, content=True)
            for piece in argument_pieces(call.arguments):
                delta = {"index": position, "function": {"arguments": piece}}
                yield self._chunk(answer, 0, {"tool_calls": [delta]}, content=True)

    def _chunk(
        self,
        answer: Answer,
        index: int,
        delta: dict[str, Any],
        *,
        text: str = "",
        content: bool = False,
        finish: str | None = None,
    ) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Event(sse(self._envelope(answer, [choice])), text, index, content)

    def _envelope(self, answer: Answer, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model,
            "system_fingerprint": "fp_stub",
            "choices": choices,
            **({"usage": None} if answer.include_usage else {}),
        }

    def _usage(self, answer: Answer) -> dict[str, Any]:
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0},
        }


class AzureWire(OpenAIWire):
    """``POST /azure/openai/deployments/DEPLOYMENT/chat/completions?api-version=...``."""

    provider = "azure"
    base_path = "/azure"
    _PATH = re.compile(r"/azure/openai/deployments/([^/]+)/chat/completions")

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        match = self._PATH.fullmatch(path)
        return Target(match[1], body.get("stream") is True) if match else None

    def error(self, failure: Failure) -> dict[str, Any]:
        return {"error": {"code": failure.code or str(failure.status), "message": failure.message}}


class HuggingFaceWire(OpenAIWire):
    """``POST /huggingface/v1/chat/completions``, as the Hub's router and text-generation-inference."""

    provider = "huggingface"
    base_path = "/huggingface/v1"

    def error(self, failure: Failure) -> dict[str, Any]:
        if failure.status in (401, 403):
            return {"error": failure.message}
        return {"error": {"message": failure.message, "http_status_code": failure.status}}
