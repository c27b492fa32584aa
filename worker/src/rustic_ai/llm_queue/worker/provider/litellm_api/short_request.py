"""What LiteLLM's `completion()` makes of a call's arguments, before a provider is asked."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litellm import LlmProviders, get_llm_provider

from . import seam
from .fast_post import Post

#: The providers that LiteLLM asks in OpenAI's own form, and reads by OpenAI's own translation.
PROVIDERS = {"openai": LlmProviders.OPENAI, "deepseek": LlmProviders.DEEPSEEK}
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
_MOST_REQUESTS = 1024
_SHORT = 100


@dataclass(frozen=True, slots=True)
class Prepared:
    """Arguments that LiteLLM has checked, in the form of OpenAI's."""

    #: The provider's name for it.
    model: str
    messages: list[Any]
    params: dict[str, Any]
    #: LiteLLM's translation for the provider.
    config: Any

    def optional_params(self, provider: str, *, streamed: bool, **more: Any) -> dict[str, Any]:
        """The parameters in the provider's own form. Raises what LiteLLM does of odd ones."""
        asked = {**more, **self.params, "stream": streamed or None}
        if streamed:
            asked["stream_options"] = STREAM_OPTIONS
        if not all(_is_small(value) for value in self.params.values()):
            return _translated(provider, self.model, asked, self.messages)
        version = os.environ.get("AZURE_API_VERSION")
        return copy.deepcopy(_kept_translation(provider, self.model, json.dumps(asked), version))


@dataclass(frozen=True, slots=True)
class ShortRequest:
    """One POST in OpenAI's form, and whether LiteLLM's own way goes by OpenAI's SDK."""

    post: Post
    by_the_sdk: bool


def prepared(provider: LlmProviders, arguments: Mapping[str, Any]) -> Prepared:
    """Check a call's arguments. Raises what LiteLLM does of odd ones."""
    # In the order of LiteLLM's `completion()`, which each step changes for the next.
    model = name_there(provider.value, *asked_parameters(arguments))
    assert model is not None, "asked for no call that fits"
    messages = seam.validate_and_fix_openai_messages(messages=arguments["messages"])
    params = _checked_parameters(provider.value, arguments, model)
    config = seam.get_provider_chat_config(model=model, provider=provider)
    messages = config.translate_developer_role_to_system_role(
        messages=messages,
        model=model,
        custom_llm_provider=provider.value,
        api_base=arguments.get("api_base"),
        model_info=None,
    )
    return Prepared(model, list(messages), params, config)


def short_request(provider: str, arguments: Mapping[str, Any], *, streamed: bool = False) -> ShortRequest:
    """What LiteLLM would send for these arguments. Raises what it does of odd ones."""
    ready = prepared(PROVIDERS[provider], arguments)
    config, messages = ready.config, ready.messages
    key, api_base = arguments["api_key"], arguments.get("api_base")
    params = ready.optional_params(provider, streamed=streamed, max_retries=arguments["max_retries"])
    extra = params.pop("extra_body", None) or {}
    about = {
        "model": ready.model,
        "optional_params": params,
        "litellm_params": {"custom_llm_provider": provider, "api_base": api_base},
    }
    headers = config.validate_environment(
        headers=dict(arguments.get("extra_headers") or {}), messages=messages, api_key=key, **about
    )
    url = config.get_complete_url(api_base=_address(provider, api_base), api_key=key, **about)
    body = config.transform_request(messages=messages, headers=headers, **about)
    post = Post(url, PROVIDERS[provider], arguments["timeout"], headers, {**body, **extra}, config)
    return ShortRequest(post, by_the_sdk=provider == "openai")


def _checked_parameters(provider: str, arguments: Mapping[str, Any], model: str) -> dict[str, Any]:
    params = {name: value for name, value in arguments.items() if name in PLAIN_PARAMETERS}
    if "tools" in params:
        tools = seam.validate_and_fix_openai_tools(tools=params["tools"])
        keeps_keys = seam.is_claude_tool_target(custom_llm_provider=provider, model=model)
        params["tools"] = tools if keeps_keys else seam.drop_anthropic_only_tool_keys(tools=tools)
    if "tool_choice" in params:
        choice = seam.validate_chat_completion_tool_choice(tool_choice=params["tool_choice"], model=model)
        params["tool_choice"] = choice
    if "stop" in params:
        params["stop"] = seam.validate_openai_optional_params(stop=params["stop"])
    return params


def asked_parameters(arguments: Mapping[str, Any]) -> tuple[str, str | None, str | None, bool]:
    return (
        arguments["model"],
        arguments.get("custom_llm_provider"),
        arguments.get("api_base"),
        bool(arguments.get("tools")),
    )


def _is_small(value: object) -> bool:
    return len(value) <= _SHORT if isinstance(value, str) else isinstance(value, int | float | None)


def _translated(provider: str, model: str, asked: Mapping[str, Any], messages: list[Any]) -> dict[str, Any]:
    params: dict[str, Any] = seam.get_optional_params(
        model=model, custom_llm_provider=provider, messages=messages, **asked
    )
    return params


@functools.lru_cache(_MOST_REQUESTS)
def _kept_translation(provider: str, model: str, asked: str, _azures_version: str | None) -> dict[str, Any]:
    """That of numbers, switches and texts, which most calls repeat. LiteLLM takes 0.1 ms for each."""
    return _translated(provider, model, json.loads(asked), [])


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
