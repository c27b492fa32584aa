from __future__ import annotations

from typing import Any

from litellm import ModelResponse
from pydantic import BaseModel

from ..failures.classify import MalformedAnswer
from .finish_reasons import NATIVE_REASON
from .json_value import clean
from .openai_form import mend_openai_form


def plain_response(response: object) -> dict[str, Any]:
    """LiteLLM's response as OpenAI's `chat.completion` JSON, without headers or hidden parameters.

    Raises `MalformedAnswer` when there is no answer in it.
    """
    if not isinstance(response, ModelResponse):
        raise MalformedAnswer(f"the provider's answer is a {type(response).__name__}, not a completion")
    plain: dict[str, Any] = clean(BaseModel.model_dump(response, exclude_none=True))
    if plain.get("choices"):
        mend_openai_form(plain, streamed=False)
    choices = plain.get("choices")
    if not choices:
        raise MalformedAnswer("the provider's answer has no choices")
    for index, choice in enumerate(choices):
        message = choice.get("message")
        if not isinstance(message, dict):
            raise MalformedAnswer("the provider's answer has a choice without a message")
        choice.setdefault("index", index)
        _tidy(choice, message)
    for name in [name for name, value in plain.items() if value in ([], {})]:
        del plain[name]
    if not any(_usage_counted(plain)):
        plain.pop("usage", None)
    return plain


def _tidy(choice: dict[str, Any], message: dict[str, Any]) -> None:
    for name in [name for name, value in message.items() if value in ([], {})]:
        del message[name]
    message.setdefault("role", "assistant")
    message.setdefault("content", None)
    if native := choice.pop(NATIVE_REASON, None):
        choice.setdefault("provider_specific_fields", {})[NATIVE_REASON] = native
    lift_provider_fields(message)
    lift_provider_fields(choice)
    for call in message.get("tool_calls") or ():
        # A place in a stream, which has no meaning in a whole answer.
        call.pop("index", None)
        function = call.get("function")
        if isinstance(function, dict) and not function.get("arguments"):
            function["arguments"] = "{}"
    if message.get("tool_calls") and choice.get("finish_reason") == "stop":
        choice["finish_reason"] = "tool_calls"


def lift_provider_fields(holder: dict[str, Any]) -> None:
    """LiteLLM keeps a refusal among the fields it calls the provider's own, and most of those are None."""
    fields = holder.pop("provider_specific_fields", None) or {}
    given = {name: value for name, value in fields.items() if value not in (None, [], {})}
    if "refusal" in given:
        holder.setdefault("refusal", given.pop("refusal"))
    for name in [name for name in given if given[name] == holder.get(name)]:
        del given[name]
    if given:
        holder["provider_specific_fields"] = given


def _usage_counted(plain: dict[str, Any]) -> tuple[int, int]:
    # LiteLLM fills in zeros where the provider said nothing.
    usage = plain.get("usage") or {}
    return usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
