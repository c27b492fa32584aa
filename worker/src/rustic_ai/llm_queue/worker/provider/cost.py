from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import litellm

from .litellm_api import seam
from .wire.exchange import offline

_PRICES = ("input_cost_per_token", "output_cost_per_token", "input_cost_per_second", "output_cost_per_second",
           "input_cost_per_character", "output_cost_per_character", "tiered_pricing")  # fmt: skip


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
    if not _has_price(model, provider):
        return None
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


def _has_price(model: str, provider: str | None) -> bool:
    try:
        info = litellm.get_model_info(model, custom_llm_provider=provider)
    except Exception:
        # LiteLLM raises a plain Exception for a model that is not in its map.
        return False
    entry = litellm.model_cost.get(info.get("key", ""), {})
    return any(entry.get(name) is not None for name in _PRICES)
