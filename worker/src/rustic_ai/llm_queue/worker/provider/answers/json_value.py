"""Providers' JSON, made fit to be stored and read again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from rustic_ai.llm_queue.tasks.contract import MAX_NESTING
from rustic_ai.llm_queue.tasks.json_weight import weighs_more

#: What a `Cleaner` may have to change, as JSON writes it: half a character, a number of 19 digits or of an
#: exponent of three, NaN, infinity.
_ODD = re.compile(rb"\\u[dD][89a-fA-F]|[0-9]{19}|[0-9][eE]\+?[0-9]{3}|NaN|Infinity")
#: A glance at more takes longer than a millisecond.
_GLANCE_BYTES = 20_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH = re.compile("[\ud800-\udbff]")
_REPLACEMENT = "\ufffd"
#: Larger numbers do not fit other languages' integers, and may be thousands of digits long.
_LARGEST = 2**63 - 1
#: Left of the nesting that a record may have, for what an answer is wrapped in.
_DEEPEST = MAX_NESTING - 8

#: Where in a JSON text a value stands.
Path = tuple[str | int, ...]


def read_json(raw: bytes) -> Any:
    """The JSON that `raw` is; a byte that is not UTF-8 is read as U+FFFD. Raises `ValueError`."""
    try:
        return json.loads(raw.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def read_large_json(raw: bytes) -> Any:
    """The same by a parser that is six times as fast, and knows no half characters. Raises `ValueError`."""
    try:
        return from_json(raw)
    except ValueError:
        return read_json(raw)


def write_large_json(value: Any) -> bytes:
    """`value` as JSON in UTF-8, twice as fast as `write_json`: for what is not read line by line."""
    return to_json(value)


def write_json(value: Any) -> bytes:
    """`value` as JSON in ASCII, so that no reader of lines takes a character for the end of one."""
    return json.dumps(value, separators=(",", ":")).encode()


def looks_clean(raw: bytes) -> bool:
    """Whether it is certain, at a glance, that a `Cleaner` would change nothing in the JSON that `raw` is."""
    if len(raw) > _GLANCE_BYTES:
        return False
    return raw.count(b"[") + raw.count(b"{") <= _DEEPEST and not _ODD.search(raw)


class Cleaner:
    """Takes out of JSON what cannot be stored or read again: the rest is kept as it is.

    Half a character (a lone surrogate) becomes U+FFFD, NaN and infinities become null, and so does what is
    nested too deep. In a stream the halves of a character may come in two pieces of the same text: they
    are joined.
    """

    def __init__(self, *, streamed: bool = False) -> None:
        self._streamed = streamed
        #: First halves that wait for the next piece of their text.
        self._halves: dict[Path, str] = {}

    def clean(self, value: Any, raw: bytes | None = None) -> Any:
        """`value`, or a copy where something may have to be changed. `raw` is the JSON it was read from."""
        if not self._halves and looks_clean(_written(value) if raw is None else raw):
            return value
        return self._clean(value, ())

    def left_over(self, path: Path) -> str:
        """What stands for a first half at `path` whose second half did not come."""
        return _REPLACEMENT if self._halves.pop(path, None) else ""

    def _clean(self, value: Any, path: Path) -> Any:
        match value:
            case str():
                return self._text(value, path)
            case bool() | None:
                return value
            case int() if not -_LARGEST <= value <= _LARGEST:
                return None
            case float() if not math.isfinite(value):
                return None
            case dict() | list() if len(path) > _DEEPEST:
                return None
            case dict():
                return {self._name(name): self._clean(item, (*path, name)) for name, item in value.items()}
            case list():
                return [self._clean(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> str:
        half = self._halves.pop(path, None) if self._halves and text else None
        if half is None and (text.isascii() or not _SURROGATE.search(text)):
            return text
        if half is not None:
            text = half + text
        if self._streamed and _HIGH.match(text[-1]):
            self._halves[path], text = text[-1], text[:-1]
        # Through UTF-16 two halves that stand side by side become one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _name(self, name: str) -> str:
        return name if name.isascii() or not _SURROGATE.search(name) else self._text(name, ("", name))


def _written(value: Any) -> bytes:
    """`value` as JSON, to be glanced at; what is none, or too long for that, is to be cleaned."""
    try:
        return b"NaN" if weighs_more(value, _GLANCE_BYTES) else to_json(value, inf_nan_mode="constants")
    except ValueError:
        return b"NaN"


def clean(value: Any) -> Any:
    """One whole value, cleaned."""
    return Cleaner().clean(value)


def clean_text(text: str) -> str:
    """One text, cleaned."""
    cleaned: str = Cleaner().clean(text)
    return cleaned


def without_none(value: Any) -> Any:
    """`value` without the entries of its objects that are null: what is not said."""
    match value:
        case str():
            return value
        case dict():
            return {name: without_none(item) for name, item in value.items() if item is not None}
        case list():
            return [without_none(item) for item in value]
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
