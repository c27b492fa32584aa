from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from litellm import LlmProviders, get_llm_provider

from ...pool.inline_executor import in_thread_if
from ..failures.classify import MalformedAnswer
from ..failures.litellm_error import named_error
from ..targets.credentials import Target
from ..wire.exchange import answer_is_large
from . import seam
from .fast_path import ONLY_THE_SDK_READS, SET_FOR_EACH
from .fast_post import Post

_PARAMETERS = ("dimensions", "user")
_ARGUMENTS = frozenset(
    {*_PARAMETERS, "api_base", "api_key", "custom_llm_provider", "extra_headers", "input", "model", "timeout"}
)
_MOST_MODELS = 1024


def embeddings_fit(
    target: Target, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether `fast_embeddings` of these arguments gives what `litellm.aembedding` would."""
    return (
        target.provider == "openai"
        and _name_at_openai(*_asked(arguments)) is not None
        and arguments.keys() <= _ARGUMENTS
        and not any(name.lower() in SET_FOR_EACH for name in arguments.get("extra_headers") or ())
        and not any(environment.get(name) for name in ONLY_THE_SDK_READS)
    )


async def fast_embeddings(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer of a provider that speaks OpenAI's embeddings, as it came.

    `litellm.aembedding` has a thread and OpenAI's SDK in the way, which retries by itself, and makes an
    object of each number of a vector three times. Here vectors come as base64, and stay what they are.
    """
    model = _name_at_openai(*_asked(arguments))
    try:
        base = seam.resolve_openai_api_base(arguments.get("api_base"))
        post = Post(
            f"{base.rstrip('/')}/embeddings",
            LlmProviders.OPENAI,
            arguments["timeout"],
            headers={
                **(arguments.get("extra_headers") or {}),
                "authorization": f"Bearer {arguments['api_key']}",
                "content-type": "application/json",
            },
            body={
                "model": model,
                "input": arguments["input"],
                # OpenAI's own SDK asks for it by default, so whatever speaks to that understands it.
                "encoding_format": "base64",
                **{name: arguments[name] for name in _PARAMETERS if name in arguments},
            },
            config=seam.get_provider_chat_config(model=model, provider=LlmProviders.OPENAI),
        )
        response = await post.answer()
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider="openai") from error
    try:
        body = await in_thread_if(answer_is_large(), response.json)
    except ValueError:
        raise MalformedAnswer("the provider's answer is not JSON") from None
    if not isinstance(body, dict):
        raise MalformedAnswer("the provider's answer is not a JSON object")
    return body


def _asked(arguments: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    return arguments["model"], arguments.get("custom_llm_provider"), arguments.get("api_base")


@functools.lru_cache(_MOST_MODELS)
def _name_at_openai(model: str, provider: str | None, api_base: str | None) -> str | None:
    """The model's name for OpenAI's embeddings; None where LiteLLM would go another way."""
    name, found, _, base = get_llm_provider(model=model, custom_llm_provider=provider, api_base=api_base)
    return name if found == "openai" and base == api_base else None
