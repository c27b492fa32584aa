"""Calls by LiteLLM's handler of one provider, without what `litellm.acompletion` does around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from litellm import LlmProviders

from ..failures.litellm_error import named_error
from ..targets.credentials import Target
from . import seam
from .azure_call import azure_answer, azure_events, azure_url
from .event_stream import EventStream
from .litellm_stream import LiteLLMStream
from .short_request import OUR_ARGUMENTS, PLAIN_PARAMETERS, asked_parameters, name_there, prepared

#: The providers whose handlers need nothing but what `handler_completion` gives them.
_PROVIDERS = {
    "anthropic": LlmProviders.ANTHROPIC,
    "azure": LlmProviders.AZURE,
    "gemini": LlmProviders.GEMINI,
}
_ARGUMENTS = PLAIN_PARAMETERS | OUR_ARGUMENTS | {"api_version"}
#: Variables that bring a second credential along, or have `completion()` mark what Anthropic shall keep.
_OTHER_WAYS = ("AZURE_AD_TOKEN", "LITELLM_ENABLE_ANTHROPIC_PROMPT_CACHING")
_PLAIN_PART = {"type", "text"}


class _Unlogged:
    """Stands where LiteLLM keeps what its callbacks read; two of it are read for Gemini's answers, too."""

    def __init__(self, optional_params: Mapping[str, Any], litellm_params: Mapping[str, Any]) -> None:
        self.optional_params, self.litellm_params = optional_params, litellm_params
        self.model_call_details: dict[str, Any] = {}

    def pre_call(self, *_: object, **__: object) -> None:
        """Nobody listens."""

    post_call = pre_call


def handler_fits(
    target: Target, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether `handler_completion` of these arguments gives what `litellm.acompletion` would."""
    return (
        target.provider in _PROVIDERS
        and not target.routed
        and arguments.keys() <= _ARGUMENTS
        and bool(arguments.get("api_key"))
        and not any(environment.get(name) for name in _OTHER_WAYS)
        and _is_plain_choice(arguments.get("tool_choice"))
        and all(map(_is_plain, arguments["messages"]))
        and name_there(target.provider, *asked_parameters(arguments)) is not None
    )


async def handler_completion(provider: str, arguments: Mapping[str, Any]) -> object:
    """One whole answer of a provider that does not speak OpenAI's form, or not at OpenAI's address.

    The translation, the HTTP client, its repetitions and the exceptions are those of LiteLLM's handler;
    Azure's goes by way of OpenAI's SDK, which most calls go past.
    `litellm.acompletion` hands it the same from a thread, with a log of the call that only callbacks read.
    Holds for the pinned release of LiteLLM, and only for arguments that `handler_fits`.
    """
    try:
        context = _context(provider, arguments)
        if provider == "azure" and (url := azure_url(context)) is not None:
            return await azure_answer(url, context)
        return await seam.HANDLERS[provider](context)
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error


async def handler_stream(provider: str, arguments: Mapping[str, Any]) -> EventStream | LiteLLMStream:
    """The same for a stream. Gemini's call is made only when the stream is read."""
    try:
        context = _context(provider, arguments, streamed=True)
        if provider == "azure" and (url := azure_url(context)) is not None:
            return await azure_events(url, context)
        return LiteLLMStream(await seam.HANDLERS[provider](context), reads_events=True)
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error


def _context(provider: str, arguments: Mapping[str, Any], *, streamed: bool = False) -> Any:
    ready = prepared(_PROVIDERS[provider], arguments)
    api_base, api_version = arguments.get("api_base"), arguments.get("api_version")
    optional_params = ready.optional_params(
        provider, streamed=streamed, max_retries=arguments["max_retries"], api_version=api_version
    )
    litellm_params = seam.get_litellm_params(
        acompletion=True,
        api_key=arguments["api_key"],
        custom_llm_provider=provider,
        api_base=api_base,
        api_version=api_version,
        max_retries=arguments["max_retries"],
        timeout=arguments["timeout"],
    )
    response = seam.ModelResponse()
    response.usage = seam.Usage()
    return seam.CompletionDispatchContext(
        _azure_detection_model=ready.model,
        acompletion=True,
        api_base=api_base,
        api_key=arguments["api_key"],
        api_version=api_version,
        client=None,
        custom_llm_provider=provider,
        custom_prompt_dict={},
        extra_headers=arguments.get("extra_headers"),
        headers=dict(arguments.get("extra_headers") or {}),
        hf_model_name=None,
        kwargs={},
        litellm_params=litellm_params,
        logger_fn=None,
        logging=_Unlogged(ready.params, litellm_params),
        max_retries=arguments["max_retries"],
        max_tokens=arguments.get("max_tokens"),
        messages=ready.messages,
        metadata=None,
        model=ready.model,
        model_response=response,
        optional_params=optional_params,
        optional_params_for_model_info=lambda _: optional_params,
        organization=None,
        provider_config=ready.config,
        request_params=MappingProxyType(ready.params),
        shared_session=None,
        stream=streamed or None,
        temperature=arguments.get("temperature"),
        text_completion=False,
        timeout=arguments["timeout"],
        timeout_for_optional_params=lambda _: arguments["timeout"],
        top_p=arguments.get("top_p"),
    )


def _is_plain(message: Mapping[str, Any]) -> bool:
    """Whether a message is text alone: pictures and files may be fetched, and caches made, on the way."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return True
    return all(isinstance(part, Mapping) and part.keys() <= _PLAIN_PART for part in parts)


def _is_plain_choice(choice: object) -> bool:
    return not isinstance(choice, Mapping) or choice.get("type") == "function"
