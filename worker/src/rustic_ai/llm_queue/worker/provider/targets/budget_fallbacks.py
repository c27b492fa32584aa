"""A model that steps in where a budget is spent, and may not be called or costs more, helps nobody."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import litellm

from rustic_ai.llm_queue.tasks.policy.budget_rule import BudgetRule

from .priced_models import priced_models

logger = logging.getLogger(__name__)


def warn_of_fallbacks(budgets: Sequence[BudgetRule], allowed_models: Sequence[str]) -> None:
    """A line of the log for each of `budget_fallbacks` that is not allowed, or dearer than all it replaces.

    Not an error: prices change with LiteLLM's map, and a worker that starts no more helps even less.

    Args:
        allowed_models: patterns.
    """
    if not any(budget.budget_fallbacks for budget in budgets):
        return
    prices = {name: _usd_a_million(entry) for name, entry in priced_models()}
    for budget in budgets:
        for pattern, instead in budget.budget_fallbacks.items():
            where = f"budgets {budget.name!r}: budget_fallbacks[{pattern!r}]"
            if not _is_allowed(instead, allowed_models):
                logger.warning(
                    "%s: %r is not among LLM_QUEUE_ALLOWED_MODELS: calls that it should take fail",
                    where,
                    instead,
                )
            price = prices.get(instead)
            replaced = [
                cost for name, cost in prices.items() if cost is not None and fnmatchcase(name, pattern)
            ]
            if price is not None and replaced and price > max(replaced):
                logger.warning(
                    "%s: %r is dearer (%.2f USD for a million tokens of input and as many of output) than "
                    "each model that it steps in for (%.2f at the most)",
                    where,
                    instead,
                    price,
                    max(replaced),
                )


def _is_allowed(model: str, allowed_models: Sequence[str]) -> bool:
    provider = litellm.model_cost.get(model, {}).get("litellm_provider")
    names = {model, f"{provider}/{model}"} if provider else {model}
    return any(fnmatchcase(name, pattern) for name in names for pattern in allowed_models)


def _usd_a_million(entry: Mapping[str, Any]) -> float | None:
    """For a million tokens of input and as many of output; None where the map has no price."""
    costs = [entry.get(f"{kind}_cost_per_token") for kind in ("input", "output")]
    known = [float(cost) for cost in costs if isinstance(cost, int | float)]
    return sum(known) * 1e6 if sum(known) > 0 else None
