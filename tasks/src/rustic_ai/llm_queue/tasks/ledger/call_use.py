from __future__ import annotations

from dataclasses import dataclass

from ..usage import Usage
from .charge import Charge, pico_usd

_PICO_IN_NANO = 1_000


@dataclass(frozen=True, slots=True)
class CallUse:
    """What an ended provider call took, as limits and budgets count it."""

    input_tokens: int
    output_tokens: int
    #: Rounded up; None where the model has no price.
    nano_usd: int | None = None

    @classmethod
    def of_usage(cls, usage: Usage | None) -> CallUse | None:
        """None where nothing is known."""
        if usage is None or usage.prompt_tokens is None:
            return None
        return cls(usage.prompt_tokens, usage.completion_tokens or 0, nano_usd(pico_usd(usage.cost_usd)))

    @classmethod
    def of_charge(cls, charge: Charge | None, uncounted_tokens: int = 0) -> CallUse | None:
        """None where nothing is known, or by a tenant's word alone.

        `uncounted_tokens` of the input are none that the provider counts.
        """
        if charge is None or charge.own_endpoint:
            return None
        input_tokens = max(charge.prompt_tokens - uncounted_tokens, 0)
        return cls(input_tokens, charge.completion_tokens, nano_usd(charge.pico_usd))


def nano_usd(pico: int | None) -> int | None:
    """Picodollars as nanodollars, rounded up."""
    return None if pico is None else -(-pico // _PICO_IN_NANO)
