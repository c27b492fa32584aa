from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, Field
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    AssistantMessage,
    ChatCompletionResponse,
    CompletionUsage,
    FinishReason,
    LLMMessage,
)

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord as AttemptRecord
from rustic_ai.llm_queue.tasks.budget_state import BudgetState
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.reuse.options import Cached

#: Reasons that providers give in their own words, where LiteLLM passes them on.
_FINISH_REASONS = {
    "max_tokens": FinishReason.length,
    "model_length": FinishReason.length,
    "model_context_window_exceeded": FinishReason.length,
    "tool_use": FinishReason.tool_calls,
    "tool_call": FinishReason.tool_calls,
    "safety": FinishReason.content_filter,
    "recitation": FinishReason.content_filter,
    "prohibited_content": FinishReason.content_filter,
    "content_filtered": FinishReason.content_filter,
    "refusal": FinishReason.content_filter,
}


def _known_as[T: type](base: type) -> Callable[[T], T]:
    """Give a class the name that Rustic derives a message's format from.

    Handlers and routes are registered for core's `ChatCompletionResponse`, by name: an answer under
    a subclass's own name would reach none of them.
    """

    def rename(cls: T) -> T:
        cls.__module__, cls.__name__ = base.__module__, base.__name__
        return cls

    return rename


class QueueUsage(CompletionUsage):
    """The usage as the provider gave it, details included."""

    model_config = ConfigDict(extra="allow")


@_known_as(ChatCompletionResponse)
class QueueChatCompletionResponse(ChatCompletionResponse):
    """A chat completion, with what the queue knows of how it came about.

    In a guild it travels as core's `ChatCompletionResponse`; a processor for either class gets it.
    """

    #: Optional, as a response that another resolver made has none of these.
    job_id: str | None = None
    #: USD by LiteLLM's price map; None when the model has no price there.
    cost_usd: float | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: Every provider call made, in order.
    attempts: list[AttemptRecord] = Field(default_factory=list)
    #: Seconds between submit and the first claim by a worker.
    queue_wait_s: float | None = None
    #: Seconds between the last claim and the end.
    run_time_s: float | None = None
    worker: str | None = None
    #: Seconds it waited for limits, and the name of the latest of them, as the operators' policy has it.
    limited_s: float | None = None
    limited_by: str | None = None
    #: Of the operators' budgets that the call passed, the one with the least left, as it then stood.
    budget: BudgetState | None = None
    #: True when a worker was lost with a call under way, so the provider may have billed twice.
    possible_duplicate_charge: bool = False
    #: `hit` when the answer was kept from an earlier call, `flight` when an equal call under way brought it.
    cached: Cached | None = None
    #: Seconds since the provider gave the answer, where it was reused.
    cache_age_s: float | None = None
    #: USD that the answer cost the call that paid for it, where it was reused; `cost_usd` is then 0.
    saved_usd: float | None = None
    usage: QueueUsage | None = None

    @classmethod
    def from_outcome(
        cls, answered: Answered, *, job_id: str, input_messages: Iterable[LLMMessage] | None
    ) -> QueueChatCompletionResponse:
        """Raises pydantic's `ValidationError` when the answer is not a chat completion."""
        account = answered.account
        body = {
            **answered.response,
            "model": answered.response.get("model") or answered.model,
            "choices": [_choice(raw, at) for at, raw in enumerate(answered.response.get("choices") or ())],
            "usage": usage_json(answered.response.get("usage")),
            "input_messages": None if input_messages is None else [m.model_copy() for m in input_messages],
            "attempts": account.attempts,
            "job_id": job_id,
        }
        shared = (
            *("cost_usd", "cached_tokens", "reasoning_tokens", "queue_wait_s", "run_time_s", "worker"),
            *("cached", "cache_age_s", "saved_usd", "limited_s", "limited_by", "budget"),
        )
        facts = {name: getattr(account, name) for name in shared}
        return cls.model_validate(
            {**body, **facts, "possible_duplicate_charge": account.possible_duplicate_charge}
        )

    def __repr_name__(self) -> str:
        return "QueueChatCompletionResponse"

    def __reduce__(self) -> tuple[Any, ...]:
        # By its name, pickle would look for the class in core.
        return _blank, (), self.__getstate__()


def finish_reason(raw: object) -> FinishReason:
    """Core's word for a reason in a provider's own; one that nobody knows is `stop`."""
    if isinstance(raw, str) and raw in list(FinishReason):
        return FinishReason(raw)
    return _FINISH_REASONS.get(str(raw).lower(), FinishReason.stop)


def usage_json(raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """A provider's usage with every count that core asks for; 0 for those it did not give."""
    counts = {name: (raw or {}).get(name) or 0 for name in CompletionUsage.model_fields}
    return {**(raw or {}), **counts}


def _blank() -> QueueChatCompletionResponse:
    return QueueChatCompletionResponse.__new__(QueueChatCompletionResponse)


def _choice(raw: Mapping[str, Any], at: int) -> dict[str, Any]:
    choice = {**raw, "index": raw.get("index") if raw.get("index") is not None else at}
    reason = raw.get("finish_reason")
    if reason not in list(FinishReason):
        choice["finish_reason"] = finish_reason(reason)
        fields = raw.get("provider_specific_fields") or {}
        choice["provider_specific_fields"] = {**fields, "finish_reason": reason}
    choice["message"] = _message(raw.get("message") or {})
    if raw.get("logprobs") is not None:
        choice["logprobs"] = _logprobs(raw["logprobs"])
    return choice


def _message(raw: Mapping[str, Any]) -> dict[str, Any]:
    message = {**raw, "role": "assistant"}
    if raw.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call, at) for at, call in enumerate(raw["tool_calls"])]
    if isinstance(raw.get("content"), list):
        message["content"] = "".join(part.get("text") or "" for part in raw["content"])
    # Audio, pictures, annotations: core has no field for them, and they were paid for.
    further = {
        name: value for name, value in raw.items() if name not in AssistantMessage.model_fields and value
    }
    if further:
        message["provider_specific_fields"] = {**further, **(raw.get("provider_specific_fields") or {})}
    return message


def _tool_call(raw: Mapping[str, Any], at: int) -> dict[str, Any]:
    function = dict(raw.get("function") or {})
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments or {})
    return {"id": raw.get("id") or f"call_{at}", "type": "function", "function": function}


def _logprobs(raw: Any) -> Any:
    # Core has a list where the API allows null: without this the whole block would stay untyped.
    tidy = copy.deepcopy(raw)
    if isinstance(tidy, dict):
        for token in tidy.get("content") or ():
            token["top_logprobs"] = token.get("top_logprobs") or []
            for entry in (token, *token["top_logprobs"]):
                entry["bytes"] = entry.get("bytes") or []
    return tidy
