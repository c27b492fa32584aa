"""Which variable of a worker's environment holds its key for which provider."""

from __future__ import annotations

from collections.abc import Mapping

import litellm
from litellm.exceptions import BadRequestError
from litellm.llms.openai_like.json_loader import JSONProviderRegistry

#: In the order in which LiteLLM looks. A provider that is not here finds its credentials by itself
#: (AWS profiles, Google's default credentials, …), so nobody else's address may be given to it.
KEY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "ai21_chat": ("AI21_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "anthropic_text": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
    "azure_ai": ("AZURE_AI_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "custom_openai": ("OPENAI_API_KEY",),
    "dashscope": ("DASHSCOPE_API_KEY",),
    "deepinfra": ("DEEPINFRA_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "hosted_vllm": ("HOSTED_VLLM_API_KEY",),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "novita": ("NOVITA_API_KEY",),
    "nvidia_nim": ("NVIDIA_NIM_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openai_like": ("OPENAI_LIKE_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "together_ai": ("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN"),
    "xai": ("XAI_API_KEY",),
}

#: Servers of one's own, which commonly ask for no key.
KEYLESS = frozenset({"custom_openai", "hosted_vllm", "openai_like"})


def variables(provider: str) -> tuple[str, ...]:
    """What may hold this worker's key for a provider; nothing when it needs another kind of credential."""
    if known := KEY_VARIABLES.get(provider):
        return known
    listed = JSONProviderRegistry.get(provider)
    return (listed.api_key_env,) if listed is not None and listed.api_key_env else ()


def worker_key(provider: str, environment: Mapping[str, str]) -> str | None:
    """This worker's key for a provider, None when it has none."""
    named = (environment.get(name) for name in variables(provider))
    return next((key for key in named if key), None)


#: They run a login of their own, read prompts from elsewhere, or are no providers of completions.
REFUSED_PROVIDERS = frozenset(
    {"auto_router", "chatgpt", "cursor", "dotprompt", "github_copilot", "humanloop", "langfuse",
     "litellm_agent"}
)  # fmt: skip


def provider_of(model: str, custom_llm_provider: str | None = None) -> str | None:
    """The provider LiteLLM would send a model's calls to, None when it knows none."""
    if (custom_llm_provider or model.split("/", 1)[0]) in REFUSED_PROVIDERS:
        return custom_llm_provider or model.split("/", 1)[0]
    try:
        provider = litellm.get_llm_provider(model=model, custom_llm_provider=custom_llm_provider)[1]
    except BadRequestError:
        return None
    return str(getattr(provider, "value", provider))
