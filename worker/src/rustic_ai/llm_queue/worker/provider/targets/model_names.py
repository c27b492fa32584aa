"""All names that one model has: a limit holds it however a job names it."""

from __future__ import annotations

import functools

import litellm

from ..litellm_api import seam


def model_names(provider: str, name: str, given: str) -> tuple[str, ...]:
    """`provider/model` first, which tells models apart; then the others that patterns are held against.

    The model without its provider is among them, unless that would be another provider's: what OpenRouter
    calls `openai/gpt-4o` is not OpenAI's.

    Args:
        name: as LiteLLM is called with it.
        given: as the job names it.
    """
    alone = name.removeprefix(f"{provider}/")
    known = (f"{provider}/{alone}", name, given, *(() if _names_a_provider(alone) else (alone,)))
    return tuple(dict.fromkeys(known))


def providers() -> list[str]:
    """LiteLLM's providers, by the names that models and patterns begin with."""
    known = {str(getattr(one, "value", one)) for one in litellm.provider_list}
    return sorted(known | set(seam.JSONProviderRegistry.list_providers()))


@functools.cache
def _provider_set() -> frozenset[str]:
    return frozenset(providers())


def _names_a_provider(model: str) -> bool:
    first, slash, _ = model.partition("/")
    return bool(slash) and first in _provider_set()
