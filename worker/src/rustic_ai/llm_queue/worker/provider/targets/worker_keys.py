"""Which variable of a worker's environment holds its key for which provider."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import litellm
from litellm.exceptions import BadRequestError

from ..litellm_api import seam
from .key_variables import KEY_VARIABLES

#: Servers of one's own, which commonly ask for no key.
KEYLESS = frozenset({"custom_openai", "hosted_vllm", "openai_like"})


def variables(provider: str) -> tuple[str, ...]:
    """What may hold this worker's key for a provider; nothing when it needs another kind of credential."""
    if known := KEY_VARIABLES.get(provider):
        return known
    listed = seam.JSONProviderRegistry.get(provider)
    return (listed.api_key_env,) if listed is not None and listed.api_key_env else ()


def worker_key(provider: str, environment: Mapping[str, str]) -> str | None:
    """This worker's key for a provider, None when it has none."""
    named = (environment.get(name) for name in variables(provider))
    return next((key for key in named if key), None)


_MOST_MODELS = 1024
#: They run a login of their own, read prompts from elsewhere, or are no providers of completions.
REFUSED_PROVIDERS = frozenset(
    {"auto_router", "chatgpt", "cursor", "dotprompt", "github_copilot", "humanloop", "langfuse",
     "litellm_agent"}
)  # fmt: skip


@functools.lru_cache(_MOST_MODELS)
def provider_of(model: str, custom_llm_provider: str | None = None) -> str | None:
    """The provider LiteLLM would send a model's calls to, None when it knows none."""
    if (custom_llm_provider or model.split("/", 1)[0]) in REFUSED_PROVIDERS:
        return custom_llm_provider or model.split("/", 1)[0]
    try:
        provider = litellm.get_llm_provider(model=model, custom_llm_provider=custom_llm_provider)[1]
    except BadRequestError:
        return None
    return str(getattr(provider, "value", provider))
