"""Answers that no provider should send, and each of them has: what the caller is to get, and in one call."""

from __future__ import annotations

import random
from typing import Any

from support.providers.provider import Step
from support.providers.raw_answers import told, whole

_USAGES: list[Any] = [
    {"prompt_tokens": 11.25, "completion_tokens": 7.5, "total_tokens": 18.75},
    {"prompt_tokens": float("nan"), "completion_tokens": "7", "total_tokens": []},
    {"prompt_tokens": -10_000_000, "completion_tokens": 2**63 - 1, "total_tokens": -1},
    {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": [1]},
    "none",
    None,
]
_FIELDS: list[dict[str, Any]] = [
    {"created": 1.5},
    {"created": "now"},
    {"id": 7},
    {"model": ["m"]},
    {},
]
_TEXTS = {"a \udcaf b": "a \ufffd b", "half \ud83d": "half \ufffd", "plain": "plain"}
#: Bodies that are meant to hold up a worker, each with the status of a request that is at fault.
_HOSTILE = [
    " " * 60_000,
    '{"error":' * 15_000 + "1" + "}" * 15_000,
    '{"error":' * 15_000,
    "no " * 700_000,
    '{"error":{"message":"a \\udcaf b","code":"\\udcaf","param":7}}',
]


def odd_answer(dice: random.Random, *, stream: bool) -> tuple[Step, str]:
    """One such answer, and its text as the caller is to get it."""
    sent, got = dice.choice(list(_TEXTS.items()))
    fields = {**dice.choice(_FIELDS), "usage": dice.choice(_USAGES)}
    return Step(raw=(told if stream else whole)(sent, **fields), times=None), got


def hostile_error(dice: random.Random) -> Step:
    """An error that ends its call at once, whatever its body is."""
    return Step(raw=dice.choice(_HOSTILE), status=400, times=None)
