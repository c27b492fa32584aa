"""How large a JSON schema becomes when its `$ref`s are written out, as LiteLLM does for some providers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_DEFINITIONS = ("$defs", "definitions")


def expanded_size(schema: Any, *, most: int) -> int:
    """The parts of `schema` with its references written out; more than `most` is not counted on.

    A reference to what it stands in counts once: written out, it would have no end, and nobody does it.
    """
    definitions = dict(_definitions(schema))
    own: dict[str, tuple[int, Counter[str]]] = {}
    sizes: dict[str, int] = {}

    def look_at(name: str) -> tuple[int, Counter[str]]:
        if name not in own:
            own[name] = _own_size(definitions[name], definitions)
        return own[name]

    size, references = _own_size(schema, definitions)
    # Depth first without recursion: references may form a chain of any length.
    for first in references:
        path, entered = [first], {first}
        while path:
            name = path[-1]
            parts, inner = look_at(name)
            waiting = next((one for one in inner if one not in sizes and one not in entered), None)
            if waiting is not None:
                path.append(waiting)
                entered.add(waiting)
                continue
            total = parts + sum(times * sizes.get(one, 1) for one, times in inner.items())
            sizes[path.pop()] = min(total, most + 1)
    return min(size + sum(times * sizes[one] for one, times in references.items()), most + 1)


def _own_size(schema: Any, definitions: Mapping[str, Any]) -> tuple[int, Counter[str]]:
    """The parts of a schema without its definitions, and what it refers to."""
    size, references = 0, Counter[str]()
    level = [schema]
    while level:
        value = level.pop()
        size += 1
        if isinstance(value, Mapping):
            name = _referred(value)
            if name in definitions:
                references[name] += 1
            level += [item for key, item in value.items() if key not in _DEFINITIONS]
        elif isinstance(value, list | tuple):
            level += value
    return size, references


def _definitions(schema: Any) -> Iterator[tuple[str, Any]]:
    level = [schema]
    while level:
        value = level.pop()
        if isinstance(value, Mapping):
            for key in _DEFINITIONS:
                found = value.get(key)
                if isinstance(found, Mapping):
                    yield from ((str(name), item) for name, item in found.items())
            level += value.values()
        elif isinstance(value, list | tuple):
            level += value


def _referred(schema: Mapping[str, Any]) -> str:
    reference = schema.get("$ref")
    return reference.rpartition("/")[2] if isinstance(reference, str) else ""
