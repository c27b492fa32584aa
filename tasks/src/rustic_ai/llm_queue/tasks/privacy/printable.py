from __future__ import annotations

import json
import unicodedata
from typing import Any

#: Controls (ESC and C1 among them), invisible characters such as those that turn the direction of
#: writing, halves of characters, and the separators that some terminals take for line ends.
_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Prose needs them: line ends, tabs, what joins letters and parts words.
OF_PROSE = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{SOFT HYPHEN}"


def printable(text: object, *, keep: str = "") -> str:
    """`text` as a terminal or a log may show it: what would steer either is written as an escape.

    Names, ids and messages come from tenants and providers. The characters of `keep` stay as they are.
    """
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(one if one in keep or not _steers(one) else _escape(one) for one in whole)


def printable_json(value: Any, *, indent: int | None = 2) -> str:
    """`value` as JSON that reads the same and is safe to show. What JSON has no form for becomes text."""
    text = json.dumps(value, default=str, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    # The only line ends outside of a text are those of the indentation: `dumps` escapes the others.
    return "".join(one if one == "\n" or not _steers(one) else _json_escape(one) for one in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _STEERING


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    if character == "\N{DELETE}":
        return "\\u007f"  # the one control that `dumps` lets through
    return json.dumps(character)[1:-1]
