from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import litellm

from .litellm_api import seam
from .wire.exchange import offline

_PRICES = ("input_cost_per_token", "output_cost_per_token", "input_cost_per_second", "output_cost_per_second",
           "input_cost_per_character", "output_cost_per_character", "tiered_pricing")  # fmt: skip

#: Of these providers LiteLLM's price of plain text is tokens times rates, where the map says nothing more.
_PLAIN_PROVIDERS = frozenset({"anthropic", "azure", "deepseek", "gemini", "openai"})
_RATES = (("input_cost_per_token", "prompt_tokens"), ("output_cost_per_token", "completion_tokens"))
_COUNTS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
#: Of what each of these says more.
_DETAILS = {"prompt_tokens_details": "prompt_tokens", "completion_tokens_details": "completion_tokens"}
#: Prices that go by the prompt's length, by the hour, or by something else than tokens.
_NOT_PLAIN = re.compile(r"put_cost_per_token_above|off_peak|tiered|per_second|per_character")


def cost_usd(
    model: str,
    provider: str | None,
    usage: Mapping[str, Any] | None,
    prices: tuple[float, float] | None = None,
    service_tier: str | None = None,
) -> float | None:
    """USD for `usage` by LiteLLM's price map; None when the model has no price or nothing was counted.

    `model` is LiteLLM's name for it, with or without the provider. `prices`, in USD for an input and
    an output token, go before the map's. `service_tier` is the one that the answer names; one without
    a price of its own costs what the default one does.
    """
    if not usage or usage.get("prompt_tokens") is None or usage.get("completion_tokens") is None:
        return None
    if prices is not None:
        return float(prices[0] * usage["prompt_tokens"] + prices[1] * usage["completion_tokens"])
    # For some providers LiteLLM asks a server what a model is.
    with offline():
        return _cost_by_the_map(model, provider, usage, service_tier)


def _cost_by_the_map(
    model: str, provider: str | None, usage: Mapping[str, Any], service_tier: str | None
) -> float | None:
    entry = _entry(model, provider)
    if entry is None:
        return None
    if provider in _PLAIN_PROVIDERS and service_tier in (None, "default") and _is_plain(entry, usage):
        # The same in a quarter of the time, or an eighth, which is worth some hundredths of a call's CPU.
        prompt, completion = (entry[name] * usage[counted] for name, counted in _RATES)
        return float(prompt + completion)
    try:
        prompt, completion = litellm.cost_per_token(
            model=model,
            custom_llm_provider=provider,
            usage_object=seam.Usage(**usage),
            service_tier=service_tier,
        )
    except Exception:
        # Whatever LiteLLM cannot price has no price: it raises a plain Exception for that.
        return None
    return float(prompt + completion)


def _entry(model: str, provider: str | None) -> Mapping[str, Any] | None:
    """What LiteLLM's map says of a model; None where that is no price."""
    try:
        info = litellm.get_model_info(model, custom_llm_provider=provider)
    except Exception:
        # LiteLLM raises a plain Exception for a model that is not in its map.
        return None
    entry: Mapping[str, Any] = litellm.model_cost.get(info.get("key", ""), {})
    return entry if any(entry.get(name) is not None for name in _PRICES) else None


def _is_plain(entry: Mapping[str, Any], usage: Mapping[str, Any]) -> bool:
    """Whether a price is nothing but the tokens of prompt and answer, each times its rate."""
    return (
        all(isinstance(entry.get(name), float) for name, _ in _RATES)
        and all(type(usage[counted]) is int and usage[counted] >= 0 for _, counted in _RATES)
        and all(
            name in _COUNTS or _is_nothing(value) or _is_text(value, usage.get(_DETAILS.get(name, "")))
            for name, value in usage.items()
        )
        and _NOT_PLAIN.search(" ".join(entry)) is None
    )


def _is_nothing(value: object) -> bool:
    return not value or (isinstance(value, Mapping) and not any(value.values()))


def _is_text(details: object, tokens: int | None) -> bool:
    """Whether these details say that all of the tokens are text."""
    if not isinstance(details, Mapping):
        return False
    return details.get("text_tokens") == tokens and not any(
        value for name, value in details.items() if name != "text_tokens"
    )
