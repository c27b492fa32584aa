"""Writes docs/properties.md from the resolver's properties: `make docs`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from field_comments import field_groups
from rustic_ai.llm_queue.resolver import Properties
from rustic_ai.llm_queue.resolver.embeddings.properties import EmbeddingProperties
from rustic_ai.llm_queue.resolver.queue_properties import QueueProperties

PAGE = Path(__file__).parents[1] / "docs" / "properties.md"
_HEAD = """# Properties

The properties of the queue's resolvers in a guild's specification. They are those of upstream's resolvers,
flat or under `conf` (a flat one wins), and the queue's own. A field of the request wins over a property, a
property over a default; `null` is "do not send". A property that is unknown or wrong raises a
`ConfigurationError` when the guild is launched: it names the property, the value, and what to give instead.

This page is written by `make docs` from the properties' own classes.
"""
_TABLE = "| Property | Default | Meaning | Value |\n|---|---|---|---|\n"
SECTIONS: dict[str, type[BaseModel]] = {
    "Of a QueueLLMResolver": Properties,
    "Of both resolvers": QueueProperties,
    "Of a QueueEmbeddingsResolver": EmbeddingProperties,
}


def page() -> str:
    """The page's text."""
    tables = [f"\n## {title}\n\n{_TABLE}{''.join(_rows(owner))}" for title, owner in SECTIONS.items()]
    return "".join([_HEAD, *tables, _ignored()])


def _rows(owner: type[BaseModel]) -> Iterator[str]:
    for names, meaning in field_groups(owner):
        for name in names:
            field = owner.model_fields[name]
            if not field.exclude:
                value = _escaped(field.description or "")
                yield f"| `{name}` | {_default(field)} | {_escaped(meaning)} | {value} |\n"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def _ignored() -> str:
    names = ", ".join(f"`{name}`" for name, field in Properties.model_fields.items() if field.exclude)
    return f"\nAccepted without effect, as by the LiteLLMResolver: {names}.\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
