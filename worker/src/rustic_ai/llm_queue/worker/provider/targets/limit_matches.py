"""A limit or budget that no call could meet would be taken for one that holds: it is refused at the start."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from rustic_ai.llm_queue.tasks.policy.budget_rule import BudgetRule
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.tasks.settings import SettingsError

from .config_document import VARIABLE
from .model_names import providers
from .priced_models import priced_models

logger = logging.getLogger(__name__)

Rule = LimitRule | BudgetRule


def check_matches(rules: Sequence[Rule], *, has_deployments: bool, known_models: Iterable[str] = ()) -> None:
    """Raises `SettingsError` naming the limit or budget, the field and the pattern that can never match.

    A pattern of models that fits none known is a line of the log alone: any server may have models that
    nobody has heard of.

    Args:
        known_models: names and patterns of models, beside those of LiteLLM's price map.
    """
    known_providers = providers()
    for rule in rules:
        where = f"{_table(rule)} {rule.name!r}"
        for pattern in rule.match.provider:
            if not any(fnmatchcase(one, pattern) for one in known_providers):
                near = difflib.get_close_matches(pattern.lower(), known_providers, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SettingsError(
                    f"{where}: match.provider {pattern!r} can never match: LiteLLM has no such provider{hint}"
                )
        if rule.match.deployment and not has_deployments:
            raise SettingsError(
                f"{where}: match.deployment {rule.match.deployment[0]!r} can never match: calls "
                f"have deployments only where {VARIABLE} names a file of them"
            )
    patterns = [(rule, pattern) for rule in rules for pattern in rule.match.model]
    if patterns:
        _warn_of_strangers(patterns, {*(name for name, _ in priced_models()), *known_models})


def _warn_of_strangers(patterns: Iterable[tuple[Rule, str]], known: Collection[str]) -> None:
    for rule, pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in known):
            continue
        near = difflib.get_close_matches(pattern.lower(), known, n=1)
        logger.warning(
            "%s %r: match.model %r fits no model of LiteLLM's price map, its config or the policy: it "
            "limits nothing unless jobs name such a model%s",
            _table(rule),
            rule.name,
            pattern,
            f"; did you mean {near[0]!r}?" if near else "",
        )


def _table(rule: Rule) -> str:
    return "budgets" if isinstance(rule, BudgetRule) else "limits"
