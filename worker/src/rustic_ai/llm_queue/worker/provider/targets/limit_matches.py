"""A limit that no call could ever meet would be taken for one that holds: it is refused at the start."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import litellm

from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.tasks.settings import SettingsError

from ..litellm_api import seam
from .config_document import VARIABLE


def check_matches(rules: Sequence[LimitRule], *, has_deployments: bool) -> None:
    """Raises `SettingsError` naming the limit, the field and the pattern that can never match."""
    providers = _providers()
    for rule in rules:
        for pattern in rule.match.provider:
            if not any(fnmatchcase(one, pattern) for one in providers):
                near = difflib.get_close_matches(pattern.lower(), providers, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SettingsError(
                    f"limits {rule.name!r}: match.provider {pattern!r} can never match: LiteLLM has no such "
                    f"provider{hint}"
                )
        if rule.match.deployment and not has_deployments:
            raise SettingsError(
                f"limits {rule.name!r}: match.deployment {rule.match.deployment[0]!r} can never match: calls "
                f"have deployments only where {VARIABLE} names a file of them"
            )


def _providers() -> list[str]:
    known = {str(getattr(one, "value", one)) for one in litellm.provider_list}
    return sorted(known | set(seam.JSONProviderRegistry.list_providers()))
