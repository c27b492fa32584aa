from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Never

from pydantic import ValidationError
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, LLMMessage

from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, Endpoint
from rustic_ai.llm_queue.tasks.contract import check_json_value, field_messages
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.limits import (
    PolicyViolation,
    check_body_size,
    check_limits,
    check_timeout,
)
from rustic_ai.llm_queue.tasks.reuse.options import ReuseOptions
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..chat_request import QUEUE_FIELDS, QueueChatCompletionRequest
from ..exceptions import BY_KIND, InvalidRequest
from ..properties import DEFAULT_MAX_RETRIES, Properties
from ..queue_properties import QueueProperties
from ..toolset import tool_json, toolset_tools
from .data_urls import without_line_breaks
from .response_format import response_format_json

#: Properties that are chat completion parameters by the same name.
_PARAMS = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "max_tokens")
#: Fields of a request that are not, or not as they stand.
_NOT_PARAMS = {
    "messages",
    "tools",
    "response_format",
    "prediction",
    "timeout",
    "max_retries",
    "deployment_id",
} | QUEUE_FIELDS


def build_call(
    properties: Properties,
    prompt: ChatCompletionRequest,
    model: str | None = None,
    *,
    settings: QueueSettings,
    stream: bool = False,
) -> CompletionCall:
    """The call that `prompt` and `properties` make together. Neither is changed.

    A field of the prompt wins over a property, unless it is None. Raises `InvalidRequest`, and for
    what no worker would take `LimitExceeded` or `EndpointNotAllowed`.
    """
    if not isinstance(prompt, ChatCompletionRequest):
        _refuse(f"the prompt is a {type(prompt).__name__}; give a ChatCompletionRequest")
    if not prompt.messages:
        _refuse("messages: empty; give at least one")
    try:
        params = without_line_breaks(_params(properties, prompt))
        check_json_value(params, field="request")
        asked_model = _model(prompt, model) or properties.model
        call = CompletionCall(
            model=asked_model,
            endpoint_model=None if asked_model == properties.model else properties.model,
            fallback_models=properties.fallback_models,
            params=params,
            endpoint=endpoint_of(properties),
            max_retries=_max_retries(properties, prompt),
            stream=stream,
            reuse=_reuse(properties, prompt),
            max_cost_usd=queue_field(properties, prompt, "max_cost_usd"),
            budget_run=queue_field(properties, prompt, "budget_run"),
            **_waits(properties, prompt, settings),
        )
    except ValidationError as error:
        _refuse(field_messages(error))
    except ValueError as error:
        _refuse(str(error))
    check_call(call, settings)
    return call


def check_call(call: Call, settings: QueueSettings) -> None:
    """Raises `LimitExceeded` or `EndpointNotAllowed` for what no worker would take."""
    try:
        check_body_size(len(call.model_dump_json(exclude_defaults=True).encode()), settings)
        check_limits(call, settings)
    except PolicyViolation as violation:
        _refuse_as(violation)


def timeout_s(properties: Properties, prompt: ChatCompletionRequest, settings: QueueSettings) -> float:
    """Seconds the call may take, everything included. Raises `InvalidRequest`, `LimitExceeded`."""
    asked = prompt.timeout
    if asked is None:
        return properties.timeout_s(settings)
    # Written so that NaN is refused, too.
    if not asked > 0:
        _refuse(f"timeout: {asked:g} s is not above 0")
    try:
        check_timeout(asked, settings)
    except PolicyViolation as violation:
        _refuse_as(violation)
    return asked


def input_messages(properties: Properties, prompt: ChatCompletionRequest) -> list[LLMMessage]:
    """The messages of a call, the properties' before the prompt's."""
    return [*(properties.messages or ()), *prompt.messages]


def _params(properties: Properties, prompt: ChatCompletionRequest) -> dict[str, Any]:
    params = {name: value for name in _PARAMS if (value := getattr(properties, name)) is not None}
    asked = prompt.model_dump(exclude_unset=True, exclude_none=True, exclude=_NOT_PARAMS)
    if asked.get("logprobs") is False:
        # The API's default; a request that came as a message has every field set.
        del asked["logprobs"]
    if "max_completion_tokens" in asked and "max_tokens" not in asked:
        params.pop("max_tokens", None)
    params |= _plain(asked)
    params["messages"] = [_message_json(message) for message in input_messages(properties, prompt)]
    if tools := _tools(properties, prompt):
        params["tools"] = tools
    if (response_format := response_format_json(prompt.response_format)) is not None:
        params["response_format"] = response_format
    if (tier := queue_field(properties, prompt, "service_tier")) is not None:
        params["service_tier"] = tier
    if prompt.prediction is not None:
        params["prediction"] = {"type": "content", "content": prompt.prediction}
    return params


def _message_json(message: LLMMessage) -> dict[str, Any]:
    body: dict[str, Any] = _plain(message.model_dump(exclude_none=True))
    if isinstance(body.get("content"), list):
        body["content"] = [_part_json(part) for part in body["content"]]
    return body


def _part_json(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "file_url":
        return part
    # Core's own name for it, which no provider knows; LiteLLM fetches or passes on a `file`.
    url = part["file_url"]["url"]
    return {"type": "file", "file": {"file_data" if url.startswith("data:") else "file_id": url}}


def _tools(properties: Properties, prompt: ChatCompletionRequest) -> list[dict[str, Any]]:
    given = [*toolset_tools(properties.toolset), *map(tool_json, prompt.tools or ())]
    # Providers refuse two tools of one name; the request's own is the later one.
    return list({tool["function"]["name"]: tool for tool in given}.values())


def endpoint_of(properties: QueueProperties) -> Endpoint:
    """What of the properties belongs to their model's provider alone."""
    # Field by field: a dump would mask the key.
    return Endpoint(**{name: getattr(properties, name) for name in Endpoint.model_fields})


def _max_retries(properties: Properties, prompt: ChatCompletionRequest) -> int:
    asked = prompt.max_retries if prompt.max_retries is not None else properties.max_retries
    return DEFAULT_MAX_RETRIES if asked is None else asked


def _reuse(properties: Properties, prompt: ChatCompletionRequest) -> ReuseOptions | None:
    asked = {name: queue_field(properties, prompt, name) for name in ReuseOptions.model_fields}
    options = ReuseOptions(**asked)
    return options if options.asked else None


def _waits(properties: Properties, prompt: ChatCompletionRequest, settings: QueueSettings) -> dict[str, Any]:
    """How long the call may wait for what. Raises `ValueError`."""
    longest_s = timeout_s(properties, prompt, settings)
    max_wait_s = queue_field(properties, prompt, "max_wait")
    first_token_s = queue_field(properties, prompt, "first_token_timeout")
    if max_wait_s is not None and max_wait_s > longest_s:
        raise ValueError(f"max_wait is {max_wait_s:g} s, but the call ends after timeout = {longest_s:g} s")
    if first_token_s is not None and first_token_s >= longest_s:
        raise ValueError(
            f"first_token_timeout is {first_token_s:g} s, but the call ends after timeout = {longest_s:g} s"
        )
    return {
        "when_limited": queue_field(properties, prompt, "when_limited"),
        "max_wait_s": max_wait_s,
        "first_token_timeout_s": first_token_s,
    }


def queue_field(properties: Properties, prompt: ChatCompletionRequest, name: str) -> Any:
    """What the request says of one of the queue's own fields, else the property."""
    said = getattr(prompt, name, None) if isinstance(prompt, QueueChatCompletionRequest) else None
    return getattr(properties, name) if said is None else said


def _model(prompt: ChatCompletionRequest, model: object) -> str | None:
    if prompt.deployment_id is not None:
        # LiteLLM's own reading of it.
        return f"azure/{prompt.deployment_id}"
    # Rustic's agents pass their configuration's model, which may be an enum's member.
    value = model.value if isinstance(model, Enum) else model
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"model: got {value!r}; give a LiteLLM model name, or None for the properties' own")
    return value.strip()


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _refuse(message: str) -> Never:
    raise InvalidRequest(message)


def _refuse_as(violation: PolicyViolation) -> Never:
    """What the worker would answer, without asking it."""
    if violation.kind is ErrorKind.BAD_REQUEST:
        _refuse(str(violation))
    raise BY_KIND[violation.kind](str(violation), kind=violation.kind) from None
