from __future__ import annotations

import math
import re
from typing import Any

from rustic_ai.llm_queue.tasks.contract import LARGEST

#: The counts of OpenAI, Anthropic, Gemini and Cohere, by what their names end in.
_COUNT = re.compile(r"(?:tokens?|Tokens?|TokenCount|_units)\Z")
_DETAILS = "_tokens_details"
#: Cohere's counts stand in these.
_GROUPS = frozenset({"tokens", "billed_units"})
_USAGES = frozenset({"usage", "usageMetadata"})


def mend_usages(answer: dict[str, Any]) -> bool:
    """Mend each usage in a provider's answer, in place. Whether anything had to be changed."""
    changed = False
    holders = [answer, *(answer[name] for name in ("message", "delta") if isinstance(answer.get(name), dict))]
    for holder in holders:
        for name in _USAGES & holder.keys():
            mended = mended_usage(holder[name])
            if mended != holder[name] or _types(mended) != _types(holder[name]):
                holder[name], changed = mended, True
    return changed


def mended_usage(usage: Any) -> dict[str, Any] | None:
    """A provider's usage with whole counts from 0 to 2^53; a value that is not a count is left out."""
    if not isinstance(usage, dict):
        return None
    mended: dict[str, Any] = {}
    for name, value in usage.items():
        if name in _GROUPS or name.endswith(_DETAILS):
            if isinstance(value, dict):
                mended[name] = mended_usage(value)
        elif not _COUNT.search(name):
            mended[name] = value
        elif (count := _count(value)) is not None:
            mended[name] = count
    return mended


def _count(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 32 else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return round(value) if 0 <= value <= LARGEST else None


def _types(value: object) -> object:
    """1.0 equals 1, and is no count."""
    if isinstance(value, dict):
        return {name: _types(item) for name, item in value.items()}
    return type(value)
