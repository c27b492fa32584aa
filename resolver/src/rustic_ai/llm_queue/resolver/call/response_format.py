from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..toolset import find_class

_WRAPPED = {"json_schema": "json_schema", "json_object": None, "text": None}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


def response_format_json(value: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """A request's `response_format` as the chat completion API takes it.

    Args:
        value: a JSON schema, the dotted name of a Pydantic class, or what the API takes already.

    Raises `ConfigurationError` when the name is not that of a Pydantic class.
    """
    match value:
        case None:
            return None
        case str():
            return _wrap(_class_schema(value), strict=True)
        case {"type": str(kind)} if kind in _WRAPPED and (_WRAPPED[kind] is None or _WRAPPED[kind] in value):
            return copy.deepcopy(dict(value))
        case _:
            schema = copy.deepcopy(dict(value))
            return _wrap(schema, strict=_is_strict(schema))


def _wrap(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    title = schema.get("title")
    name = _NOT_IN_NAMES.sub("_", title)[:64] if isinstance(title, str) else ""
    return {
        "type": "json_schema",
        "json_schema": {"name": name or "response", "schema": schema, "strict": strict},
    }


def _class_schema(dotted: str) -> dict[str, Any]:
    found = find_class(dotted, field="response_format")
    if not issubclass(found, BaseModel):
        raise ValueError(f"response_format: {dotted} is not a Pydantic model; name a subclass of BaseModel")
    schema: dict[str, Any] = _closed(found.model_json_schema())
    return schema


def _closed(schema: Any) -> Any:
    # What OpenAI's strict mode asks for: no further keys, and every key present.
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(item) for name, item in schema.items()}
    if _is_object(schema):
        closed.setdefault("additionalProperties", False)
        closed["required"] = list(schema["properties"])
    return closed


def _is_strict(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if _is_object(schema) and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required") or ()) != set(schema["properties"])
    ):
        return False
    return all(map(_is_strict, schema.values()))


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
