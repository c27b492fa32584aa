"""Bodies of HTTP answers on their way in: bounded, and mended where they are JSON. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from ..answers.json_value import Cleaner, clean, read_json, read_large_json, write_json, write_large_json
from ..answers.openai_form import mend_openai_form
from ..answers.usage_form import mend_usages
from ..failures.kinds import MalformedAnswer
from ..failures.reported import check_answer
from .lines import LARGE_BYTES, Lines, check_size, is_large, separators

#: The cause stands at the beginning of an error's body.
_ERROR_BYTES = 64 * 1024
_ERROR_TEXT_BYTES = 2 * 1024
_LONG_TEXT = 500
_MOST_PARTS = 50
_BLANKS, _LONG_BLANKS = re.compile(rb"\s+"), re.compile(r"\s+")
#: More values than this, by their separators, would take the reading of an answer too long.
_MOST_VALUES = 500_000


class Body(Protocol):
    """Takes a body in as it comes and gives it on."""

    def large_with(self, piece: bytes) -> bool:
        """Whether to feed `piece`, or to come to the end without one, is a step for a thread."""

    @property
    def had_large(self) -> bool:
        """What was given on is, at least in part, for a thread to read."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What can be given on after one more piece. Raises `AnswerTooLarge`, or another `ProviderFault`."""

    def end(self) -> Iterator[bytes]:
        """What is left."""


class WholeBody:
    """A whole answer, given on when it is complete."""

    def __init__(self, limit: int, *, mends: bool = True) -> None:
        self._limit, self._mends = limit, mends
        self._pieces: list[bytes] = []
        self._size = self._values = 0

    @property
    def had_large(self) -> bool:
        return is_large(self._size, self._values)

    def large_with(self, piece: bytes) -> bool:
        return not piece and self.had_large

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        check_size(self._size, self._limit)
        self._values += separators(piece)
        self._pieces.append(piece)
        return iter(())

    def end(self) -> Iterator[bytes]:
        whole = b"".join(self._pieces)
        yield mended_answer(whole) if self._mends else whole


class ErrorBody:
    """An error's body, cut before anybody looks for words in it."""

    had_large = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        check_size(self._size, self._limit)
        self._kept += piece[: _ERROR_BYTES - len(self._kept)]
        return iter(())

    def large_with(self, piece: bytes) -> bool:
        return False

    def end(self) -> Iterator[bytes]:
        yield mended_error(bytes(self._kept))


class LineBody:
    """A stream of lines, each given on when it is complete."""

    def __init__(self, limit: int) -> None:
        self._lines = Lines(limit)
        self._cleaner = Cleaner(streamed=True)

    @property
    def had_large(self) -> bool:
        return self._lines.had_large

    def large_with(self, piece: bytes) -> bool:
        return self._lines.large_with(piece)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        for line in self._lines.feed(piece):
            yield mended_line(line, self._cleaner)

    def end(self) -> Iterator[bytes]:
        for line in self._lines.end():
            yield mended_line(line, self._cleaner)


class OpaqueBody:
    """A stream that is neither lines nor text: it is given on as it comes."""

    had_large = False

    def large_with(self, piece: bytes) -> bool:
        return False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> Iterator[bytes]:
        return iter(())


def mended_answer(raw: bytes) -> bytes:
    """A whole answer, as it came if it needed nothing. Raises `ReportedError` for one that is an error."""
    _check_values(raw)
    large = len(raw) > LARGE_BYTES
    try:
        answer = read_large_json(raw) if large else read_json(raw)
    except ValueError:
        return raw  # its reader reports it
    if not isinstance(answer, dict):
        return raw
    mended = _mended(answer, Cleaner(), raw, streamed=False)
    return write_large_json(mended) if large else write_json(mended)


def mended_line(line: bytes, cleaner: Cleaner) -> bytes:
    """One line of a stream, mended. Raises `ReportedError` for an error."""
    body = line.strip()
    head = b"data:" if body.startswith(b"data:") else b""
    event = read_event(body.removeprefix(head).strip(), cleaner)
    if event is None:
        return line
    end = line[len(line.rstrip(b"\r\n")) :]
    return head + (b" " if head else b"") + write_json(event) + end


def read_event(payload: bytes, cleaner: Cleaner) -> dict[str, Any] | None:
    """One event of a stream, mended; None where it is no JSON object. Raises `ReportedError` for an error."""
    if not payload.startswith(b"{"):
        return None
    _check_values(payload)
    try:
        event = read_json(payload)
    except ValueError:
        return None
    return _mended(event, cleaner, payload, streamed=True) if isinstance(event, dict) else None


def _mended(answer: dict[str, Any], cleaner: Cleaner, raw: bytes, *, streamed: bool) -> dict[str, Any]:
    mended: dict[str, Any] = cleaner.clean(answer, raw)
    check_answer(mended)
    if isinstance(mended.get("choices"), list):
        _finish_halves(mended, cleaner)
        mend_openai_form(mended, streamed=streamed)
    mend_usages(mended)
    return mended


def _finish_halves(chunk: dict[str, object], cleaner: Cleaner) -> None:
    """A choice that ends after half a character has U+FFFD in its place."""
    choices = chunk["choices"]
    assert isinstance(choices, list)
    for position, choice in enumerate(choices):
        if isinstance(choice, dict) and choice.get("finish_reason"):
            rest = cleaner.left_over(("choices", position, "delta", "content"))
            if rest and isinstance(delta := choice.setdefault("delta", {}), dict):
                delta["content"] = rest + (delta.get("content") or "")


def mended_error(raw: bytes) -> bytes:
    """An error's body: what JSON says in it, else its text without long blanks, cut."""
    try:
        body = read_json(raw)
        if isinstance(body, dict | list):
            return write_json(_short(clean(body)))
    except ValueError:
        pass
    return _BLANKS.sub(b" ", raw)[:_ERROR_TEXT_BYTES]


def _short(value: object) -> object:
    match value:
        case str() if len(value) > _LONG_TEXT:
            return _LONG_BLANKS.sub(" ", value)[:_ERROR_TEXT_BYTES]
        case dict():
            return {name[:_LONG_TEXT]: _short(item) for name, item in islice(value.items(), _MOST_PARTS)}
        case list():
            return [_short(item) for item in value[:_MOST_PARTS]]
    return value


def _check_values(raw: bytes) -> None:
    if len(raw) > _MOST_VALUES and separators(raw) > _MOST_VALUES:
        raise MalformedAnswer(f"the provider's answer is JSON of more than {_MOST_VALUES} values")
