"""What is wrong with a table of the policy file, in words that name the field and the value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

_PLAIN = ("value_error", "extra_forbidden", "missing")


def explain_row(
    error: ValidationError, row: type[BaseModel], parts: Mapping[str, type[BaseModel]] | None = None
) -> str:
    """
    Args:
        row: the table's fields.
        parts: those of tables within it, by their names.
    """
    return "; ".join(_explained(item, row, parts or {}) for item in error.errors())


def _explained(item: Any, row: type[BaseModel], parts: Mapping[str, type[BaseModel]]) -> str:
    path, reason = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = parts.get(path.partition(".")[0], row)
        return f"{path} is not known here; there are {', '.join(known.model_fields)}"
    if item["type"] == "missing":
        return f"{path} is missing"
    if item["type"] not in _PLAIN:
        given = item["input"]
        shown = str(given) if isinstance(given, timedelta) else repr(given)
        reason = f"{shown}: {reason[0].lower()}{reason[1:]}"
    return f"{path} {reason}" if path else reason
