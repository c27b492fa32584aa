"""`rpm`, `tpm` and `max_parallel_requests` of deployments in LiteLLM's config, as limits of all workers."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule, parse_limits
from rustic_ai.llm_queue.tasks.settings import SettingsError

from .config_document import VARIABLE

#: What LiteLLM calls them, in the parameters of a deployment.
RATES = ("rpm", "tpm", "max_parallel_requests")
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 64


def name_limited(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The model list, with an id for each limited deployment that has none: its model's name and place."""
    of_a_name = Counter(entry["model_name"] for entry in entries)
    seen: Counter[str] = Counter()
    named = []
    for entry in entries:
        model = entry["model_name"]
        seen[model] += 1
        info = entry.get("model_info") or {}
        if _rates(entry) and info.get("id") is None:
            place = f".{seen[model]}" if of_a_name[model] > 1 else ""
            entry = entry | {"model_info": {**info, "id": f"{model}{place}"}}
        named.append(entry)
    return named


def deployment_limits(entries: Sequence[dict[str, Any]]) -> tuple[LimitRule, ...]:
    """A limit for each deployment with rates. Raises `SettingsError` naming entry, field and value."""
    rules: list[LimitRule] = []
    for index, entry in enumerate(entries):
        rates = _rates(entry)
        if not rates:
            continue
        identity = str(entry["model_info"]["id"])
        row = {
            "name": _NOT_OF_A_NAME.sub("_", identity)[:_LONGEST_NAME],
            "match": {"deployment": glob.escape(identity)},
            **rates,
        }
        try:
            rules += parse_limits([row])
        except ValueError as error:
            reason = str(error).partition(": ")[2]
            where = f"model_list[{index}] ({entry['model_name']})"
            raise SettingsError(f"{VARIABLE}: {where}: {reason}") from None
    return joined((), rules)


def joined(policy: Iterable[LimitRule], of_deployments: Iterable[LimitRule]) -> tuple[LimitRule, ...]:
    """All limits of a worker. Raises `SettingsError` where two have one name."""
    rules = list(policy)
    names = {rule.name for rule in rules}
    for rule in of_deployments:
        if rule.name in names:
            raise SettingsError(
                f"{VARIABLE}: the limit of the deployment {rule.name!r} has the name of another limit; give "
                "the deployment a model_info.id of its own"
            )
        names.add(rule.name)
        rules.append(rule)
    return tuple(rules)


def _rates(entry: dict[str, Any]) -> dict[str, Any]:
    params = entry["litellm_params"]
    return {name: _number(value) for name in RATES if (value := params.get(name)) is not None}


def _number(value: Any) -> Any:
    # Out of a variable of the environment it is a text.
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
