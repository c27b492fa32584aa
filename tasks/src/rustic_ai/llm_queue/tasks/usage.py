from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from .contract import LARGEST, Contract

#: Costs are kept to the picodollar (10^-12 USD): a token may cost a few nanodollars, and whole numbers
#: add up exactly.
PICO = 12


#: No call costs this much. A sum of a thousand such still fits Redis' whole numbers of picodollars.
MOST_USD = 9_000.0


def _to_the_picodollar(cost_usd: float | None) -> float | None:
    # What is no amount is unknown, so that it reaches no sum. The books hold whole picodollars: a
    # response's cost has no more digits than they have.
    if cost_usd is None or not math.isfinite(cost_usd) or not 0 <= cost_usd <= MOST_USD:
        return None
    return round(cost_usd, PICO)


UsDollars = Annotated[float | None, AfterValidator(_to_the_picodollar)]


class Usage(Contract):
    """The tokens of a provider's work and their cost; None where nothing is known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: USD by LiteLLM's price map, to the picodollar; None when the model has no price there, or
    #: the price is no amount: negative, not finite, above `MOST_USD`.
    cost_usd: UsDollars = None
    #: The stream was cut off before the provider had counted: prompt and completion tokens, and so the
    #: cost, are reckoned from the length of the texts.
    usage_estimated: bool = False

    @classmethod
    def of(cls, usage: Mapping[str, Any] | None, *, cost_usd: float | None = None) -> Usage:
        """Read OpenAI's `usage` object. A count that is no number of tokens counts as unknown."""
        if not usage:
            return cls(cost_usd=cost_usd)
        prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        return cls(
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            cached_tokens=_count(prompt, "cached_tokens"),
            reasoning_tokens=_count(completion, "reasoning_tokens"),
            cost_usd=cost_usd,
        )


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN is in no range.
    return round(value) if 0 <= value <= LARGEST else None
