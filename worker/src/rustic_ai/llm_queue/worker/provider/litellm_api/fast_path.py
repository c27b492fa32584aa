from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from litellm import LlmProviders, get_llm_provider

from ..failures.litellm_error import named_error
from ..targets.credentials import Target
from ..wire.lines import LARGE_BYTES
from . import seam
from .fast_post import lean_post
from .sdk_answers import cut_short, leaves_no_room, refusal

#: The providers that LiteLLM asks in OpenAI's own form, and reads by OpenAI's own translation.
PROVIDERS = {"openai": LlmProviders.OPENAI, "deepseek": LlmProviders.DEEPSEEK}
#: Headers that OpenAI's SDK takes from these, and LiteLLM's own client does not.
_ONLY_THE_SDK_READS = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_SET_FOR_EACH = ("authorization", "content-type")
#: Parameters of which LiteLLM's `completion()` makes no more than `get_optional_params` does.
PLAIN_PARAMETERS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    }
)
#: What `lean_completion` itself reads, or has no use for.
OUR_ARGUMENTS = frozenset(
    {
        "api_base",
        "api_key",
        "custom_llm_provider",
        "extra_headers",
        "max_retries",
        "messages",
        "model",
        "num_retries",
        "timeout",
    }
)
STREAM_OPTIONS = {"include_usage": True}
_ANY_FUNCTION = {"type": "function", "function": {}}
_MOST_MODELS = 1024


class _Unlogged:
    """Stands where LiteLLM keeps what its callbacks read."""

    def post_call(self, **_: object) -> None:
        """Nobody listens."""


_UNLOGGED = _Unlogged()


def fits(target: Target, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `lean_completion` of these arguments gives what `litellm.acompletion` would."""
    return (
        target.provider in PROVIDERS
        and not target.routed
        and arguments.keys() <= PLAIN_PARAMETERS | OUR_ARGUMENTS
        and not any(name.lower() in _SET_FOR_EACH for name in arguments.get("extra_headers") or ())
        and not (target.provider == "openai" and any(environment.get(name) for name in _ONLY_THE_SDK_READS))
        and name_there(target.provider, *asked_parameters(arguments)) is not None
    )


async def lean_completion(provider: str, arguments: Mapping[str, Any]) -> object:
    """One whole answer of a provider that speaks OpenAI's chat completions.

    The checks, the translation, the HTTP client and the exceptions are LiteLLM's own. What
    `litellm.acompletion` does around them, for callbacks, caches, other providers and OpenAI's SDK, is
    left out: it takes half of a call's CPU, and most of the memory of a call that waits. Holds for the
    pinned release of LiteLLM, and only for arguments that `fits`.
    """
    try:
        request = short_request(provider, arguments)
        try:
            response = await lean_post(
                request.url,
                request.headers,
                request.body,
                timeout_s=arguments["timeout"],
                provider=PROVIDERS[provider],
                config=request.config,
            )
        except Exception as error:
            if not (request.by_the_sdk and leaves_no_room(error)):
                raise
            _, answer = await cut_short(error, request.body)
            return seam.convert_to_model_response_object(
                response_object=answer, model_response_object=seam.ModelResponse()
            )
        if len(response.content) > LARGE_BYTES:
            # All other calls of the worker wait for what is done on its loop.
            return await asyncio.to_thread(_read, request, response)
        return _read(request, response)
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error


@dataclass(frozen=True, slots=True)
class ShortRequest:
    """One POST in OpenAI's form."""

    #: LiteLLM's own way goes by OpenAI's SDK.
    by_the_sdk: bool
    config: Any
    url: str
    headers: dict[str, Any] = field(repr=False)
    body: dict[str, Any] = field(repr=False)


def short_request(provider: str, arguments: Mapping[str, Any], *, streamed: bool = False) -> ShortRequest:
    """What LiteLLM would send for these arguments. Raises what it does of odd ones."""
    # In the order of LiteLLM's `completion()`, which each step changes for the next.
    model = name_there(provider, *asked_parameters(arguments))
    key, api_base = arguments["api_key"], arguments.get("api_base")
    messages = seam.validate_and_fix_openai_messages(messages=arguments["messages"])
    params = checked_parameters(arguments, model)
    config = seam.get_provider_chat_config(model=model, provider=PROVIDERS[provider])
    messages = list(
        config.translate_developer_role_to_system_role(
            messages=messages, model=model, custom_llm_provider=provider, api_base=api_base, model_info=None
        )
    )
    params = seam.get_optional_params(
        model=model,
        custom_llm_provider=provider,
        messages=messages,
        stream=streamed or None,
        max_retries=arguments["max_retries"],
        **params,
        **({"stream_options": STREAM_OPTIONS} if streamed else {}),
    )
    extra = params.pop("extra_body", None) or {}
    about = {
        "model": model,
        "optional_params": params,
        "litellm_params": {"custom_llm_provider": provider, "api_base": api_base},
    }
    headers = config.validate_environment(
        headers=dict(arguments.get("extra_headers") or {}), messages=messages, api_key=key, **about
    )
    url = config.get_complete_url(api_base=_address(provider, api_base), api_key=key, **about)
    body = config.transform_request(messages=messages, headers=headers, **about)
    return ShortRequest(provider == "openai", config, url, headers, {**body, **extra})


def checked_parameters(
    arguments: Mapping[str, Any], model: str | None, *, keeps_tool_keys: bool = False
) -> dict[str, Any]:
    params = {name: value for name, value in arguments.items() if name in PLAIN_PARAMETERS}
    if "tools" in params:
        tools = seam.validate_and_fix_openai_tools(tools=params["tools"])
        params["tools"] = tools if keeps_tool_keys else seam.drop_anthropic_only_tool_keys(tools=tools)
    if "tool_choice" in params:
        choice = seam.validate_chat_completion_tool_choice(tool_choice=params["tool_choice"], model=model)
        params["tool_choice"] = choice
    if "stop" in params:
        params["stop"] = seam.validate_openai_optional_params(stop=params["stop"])
    return params


def _read(request: ShortRequest, response: httpx.Response) -> object:
    try:
        return _translated(request, response)
    except Exception:
        refused = refusal(response) if request.by_the_sdk else None
        if refused is None:
            raise
    # Out of the handler: an error that has another behind it is taken for what that is.
    raise refused


def _translated(request: ShortRequest, response: httpx.Response) -> object:
    return request.config.transform_response(
        model=request.body["model"],
        raw_response=response,
        model_response=seam.ModelResponse(),
        logging_obj=_UNLOGGED,
        request_data=request.body,
        messages=request.body["messages"],
        optional_params={},
        litellm_params={},
        encoding=None,
    )


def asked_parameters(arguments: Mapping[str, Any]) -> tuple[str, str | None, str | None, bool]:
    return (
        arguments["model"],
        arguments.get("custom_llm_provider"),
        arguments.get("api_base"),
        bool(arguments.get("tools")),
    )


def _address(provider: str, api_base: str | None) -> str | None:
    if provider == "openai":
        address: str | None = seam.resolve_openai_api_base(api_base)
        return address
    return api_base or _usual_address(provider, os.environ.get(f"{provider.upper()}_API_BASE"))


@functools.lru_cache(_MOST_MODELS)
def _usual_address(provider: str, _of_the_environment: str | None) -> str | None:
    return get_llm_provider(model="any", custom_llm_provider=provider)[3]


@functools.lru_cache(_MOST_MODELS)
def name_there(
    wanted: str, model: str, provider: str | None, api_base: str | None, with_tools: bool
) -> str | None:
    """The model's name for the provider's chat completions; None where LiteLLM would go another way."""
    name, found, _, base = get_llm_provider(model=model, custom_llm_provider=provider, api_base=api_base)
    if found != wanted or (found == "openai" and base != api_base) or name.startswith("ft:"):
        return None
    info, _ = seam.responses_api_bridge_check(
        model=name,
        custom_llm_provider=found,
        api_base=api_base,
        tools=[_ANY_FUNCTION] if with_tools else None,
    )
    return None if info.get("mode") == "responses" else name
