"""At which of a provider's service tiers a call goes: some are cheaper and slower, some dearer and faster."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import litellm

from rustic_ai.llm_queue.tasks.call import SERVICE_TIERS, Call, CompletionCall, ServiceTier
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from .failures.classify import PolicyViolation
from .wire.exchange import offline

#: The tiers that some models have and others have not.
_EXTRA: tuple[ServiceTier, ...] = ("flex", "priority")
_MOST_MODELS = 1_000


def asked_tier(call: Call) -> ServiceTier | None:
    """The tier that a call asks for. Raises `PolicyViolation` for one that is none."""
    tier = call.params.get("service_tier") if isinstance(call, CompletionCall) else None
    if tier is not None and tier not in SERVICE_TIERS:
        raise _refused(f"service_tier: {str(tier)[:64]!r} is none of {', '.join(SERVICE_TIERS)}")
    return tier


def tier_at(
    call: Call, name: str, provider: str | None, about: Mapping[str, Any] | None = None
) -> ServiceTier | None:
    """The tier that is asked of a provider's model; None where nothing is sent.

    Where a model has but one, `auto` and `default` are what happens anyway.

    Args:
        name: LiteLLM's name for the model.
        about: what the operator's LiteLLM config says of the model (`model_info`).

    Raises `PolicyViolation` where the model does not have the tier.
    """
    asked = asked_tier(call)
    if asked is None:
        return None
    offered = tiers_of(name, provider) | _in_prices(about or {})
    if asked in offered:
        return asked
    if asked in _EXTRA:
        others = f"it has {' and '.join(sorted(offered))}" if offered else "it has one tier alone"
        raise _refused(
            f"service_tier: {name[:100]!r} has no tier {asked!r} ({others}); leave service_tier out, or "
            "ask a model that has it"
        )
    return asked if offered else None


@lru_cache(maxsize=_MOST_MODELS)
def tiers_of(name: str, provider: str | None) -> frozenset[ServiceTier]:
    """The tiers beside the usual one that LiteLLM has a price for, and passes on."""
    try:
        with offline():
            info = litellm.get_model_info(name, custom_llm_provider=provider)
            plain = name.removeprefix(f"{provider}/")
            passed_on = litellm.get_supported_openai_params(model=plain, custom_llm_provider=provider)
    except Exception:
        # LiteLLM raises a plain Exception for a model that is not in its map.
        return frozenset()
    if "service_tier" not in (passed_on or ()):
        return frozenset()
    return _in_prices(litellm.model_cost.get(info.get("key", ""), {}))


def _in_prices(entry: Mapping[str, Any]) -> frozenset[ServiceTier]:
    return frozenset(tier for tier in _EXTRA if entry.get(f"input_cost_per_token_{tier}") is not None)


def _refused(message: str) -> PolicyViolation:
    return PolicyViolation(ErrorKind.BAD_REQUEST, message)
