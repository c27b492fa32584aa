"""Values as the ledger's functions take and return them: flat lists of strings and whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import batched
from typing import cast

from ..attempt import AttemptRecord
from ..call import CallKind
from .call_use import CallUse
from .charge import Charge

#: Beside the kind in the name of a row of the books whose jobs called endpoints that they named themselves.
OWN_ENDPOINT = "own"


def milliseconds(span: timedelta) -> int:
    """A duration in whole milliseconds."""
    return round(span.total_seconds() * 1000)


def attempts_json(attempts: Iterable[AttemptRecord]) -> str:
    """Ended attempts, as a job's record keeps them."""
    return "[" + ",".join(attempt.model_dump_json(exclude_none=True) for attempt in attempts) + "]"


def charge_args(charge: Charge | None, ttl_ms: int) -> list[str | int]:
    """The arguments of `book`: none where there is nothing to book."""
    if charge is None:
        return []
    owner, pico_usd = charge.owner, "" if charge.pico_usd is None else charge.pico_usd
    tokens = (charge.prompt_tokens, charge.completion_tokens)
    # A completion's row is named without its kind, as it was before there were others.
    kind = "" if charge.kind is CallKind.CHAT else charge.kind.value
    if charge.own_endpoint:
        kind = f"{charge.kind.value} {OWN_ENDPOINT}"
    reused = (int(charge.cached), charge.saved_pico_usd or 0)
    return [owner.org, owner.guild, owner.agent, charge.model, pico_usd, *tokens, ttl_ms, kind, *reused]


def used_args(used: CallUse | None) -> list[str | int]:
    """The input and output tokens of an ended call and its nanodollars, empty where they are unknown."""
    if used is None:
        return ["", "", ""]
    return [used.input_tokens, used.output_tokens, "" if used.nano_usd is None else used.nano_usd]


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """A hash as Redis returns it to a function: names and values in turn."""
    return dict(cast("Iterable[tuple[str, str]]", batched(flat, 2, strict=True)))


def whole(text: object) -> int:
    """A number of a record that may have been tampered with, read as the functions read it; 0 for none."""
    known = isinstance(text, str) and len(text) < 16 and text.isascii() and text.isdecimal()
    return int(str(text)) if known else 0
