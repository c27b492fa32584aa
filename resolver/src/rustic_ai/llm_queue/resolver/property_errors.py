from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

#: Never repeated in an error.
_PRIVATE = {"api_key", "redis_url", "extra_headers", "messages", "base_url"}


def explain(error: ValidationError, model: type[BaseModel], synonyms: Mapping[str, str]) -> str:
    """What is wrong with each property, and what to give instead; nothing private is in it.

    Args:
        model: the properties that there are, each with a description of its values.
        synonyms: what other tools call the same thing.
    """
    lines = dict.fromkeys(_line(item, model, synonyms) for item in error.errors(include_url=False))
    return "; ".join(lines)


def _line(item: Any, model: type[BaseModel], synonyms: Mapping[str, str]) -> str:
    if not item["loc"]:
        return str(item["msg"])
    name = str(item["loc"][0])
    field = model.model_fields.get(name)
    if field is None:
        return f"unknown property {name!r}{_nearest(name, model, synonyms)}"
    if item["type"] == "missing" and len(item["loc"]) == 1:
        return f"{name}: missing; give {field.description}"
    own = str(item["msg"]).removeprefix("Value error, ")
    detail = f" ({own})" if name in _PRIVATE or len(item["loc"]) > 1 else ""
    got = "a value not shown here" if name in _PRIVATE else show(item["input"])
    path = "".join(f"[{step!r}]" for step in item["loc"][1:])
    return f"{name}{path}: got {got}{detail}; give {field.description}"


def _nearest(name: str, model: type[BaseModel], synonyms: Mapping[str, str]) -> str:
    known = synonyms.get(name.lower())
    if known is None:
        matches = difflib.get_close_matches(name.lower(), [*model.model_fields, "conf"], n=1, cutoff=0.5)
        known = matches[0] if matches else None
    if known is None:
        return f"; the known ones are {', '.join(model.model_fields)}"
    return f"; did you mean {known!r}?"


def show(value: object) -> str:
    """A value as an error shows it: shortened, and NaN and infinities by name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
