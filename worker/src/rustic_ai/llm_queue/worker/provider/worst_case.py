from __future__ import annotations

from functools import lru_cache

import litellm

from rustic_ai.llm_queue.tasks.call import Call, CallKind

from .cost import cost_usd
from .targets.credentials import Target
from .wire.exchange import offline

_LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
#: Of a model that the price map says nothing of.
_UNKNOWN_OUTPUT = 4_096


def most_output(call: Call, target: Target, default: int | None) -> int:
    """The most tokens that an answer may have, all choices together.

    Args:
        default: what the worker asks for where the call names no limit; None for the model's own.
    """
    if call.kind is CallKind.EMBEDDING:
        return 0
    named = next((limit for name in _LIMIT_NAMES if (limit := call.params.get(name))), None)
    most = named or default or _of_the_model(_name(target), target.provider)
    return int(most) * int(call.params.get("n") or 1)


def priced(target: Target, input_tokens: int, output_tokens: int) -> float | None:
    """USD for a call of so many tokens, none of them cached; None where the model has no price.

    With prices above a threshold, as LiteLLM's price map has them, and by the service tier that is asked:
    of `auto`, which is the provider's choice, the dearest.
    """
    counts = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    tiers = ("default", "priority") if target.service_tier == "auto" else (target.service_tier,)
    costs = [cost_usd(_name(target), target.provider, counts, target.prices, tier) for tier in tiers]
    return max((cost for cost in costs if cost is not None), default=None)


def _name(target: Target) -> str:
    return str(target.options.get("model", target.model))


@lru_cache(maxsize=1_000)
def _of_the_model(name: str, provider: str | None) -> int:
    try:
        with offline():
            info = litellm.get_model_info(name, custom_llm_provider=provider)
    except Exception:
        # LiteLLM raises a plain Exception for a model that is not in its map.
        return _UNKNOWN_OUTPUT
    most = info.get("max_output_tokens") or info.get("max_tokens")
    return most if isinstance(most, int) and most > 0 else _UNKNOWN_OUTPUT
