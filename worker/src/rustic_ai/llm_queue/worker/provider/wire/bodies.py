"""Bodies of HTTP answers on their way in: bounded, and mended where they are JSON. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from ..answers.json_value import Cleaner, clean, read_json, read_large_json, write_json, write_large_json
from ..answers.openai_form import mend_openai_form
from ..answers.usage_form import mend_usages
from ..failures.kinds import AnswerTooLarge, MalformedAnswer
from ..failures.reported import check_answer

#: The cause stands at the beginning of an error's body.
_ERROR_BYTES = 64 * 1024
_ERROR_TEXT_BYTES = 2 * 1024
_LONG_TEXT = 500
_MOST_PARTS = 50
_BLANKS, _LONG_BLANKS = re.compile(rb"\s+"), re.compile(r"\s+")
#: More values than this, by their separators, would take the reading of an answer too long.
_MOST_VALUES = 500_000
_DONE = b"[DONE]"
#: What is longer is read and mended in a thread: milliseconds for each megabyte.
LARGE_BYTES = 512 * 1024


class Body(Protocol):
    """Takes a body in as it comes and gives it on."""

    @property
    def large(self) -> bool:
        """What is kept makes the next step one for a thread."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What can be given on after one more piece. Raises `AnswerTooLarge`, or another `ProviderFault`."""

    def end(self) -> Iterator[bytes]:
        """What is left."""


class WholeBody:
    """A whole answer, given on when it is complete."""

    def __init__(self, limit: int, *, mends: bool = True) -> None:
        self._limit, self._mends = limit, mends
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def large(self) -> bool:
        return self._mends and self._size > LARGE_BYTES

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        _check_size(self._size, self._limit)
        self._pieces.append(piece)
        return iter(())

    def end(self) -> Iterator[bytes]:
        whole = b"".join(self._pieces)
        yield mended_answer(whole) if self._mends else whole


class ErrorBody:
    """An error's body, cut before anybody looks for words in it."""

    large = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        _check_size(self._size, self._limit)
        self._kept += piece[: _ERROR_BYTES - len(self._kept)]
        return iter(())

    def end(self) -> Iterator[bytes]:
        yield mended_error(bytes(self._kept))


class LineBody:
    """A stream of lines, each given on when it is complete."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail: list[bytes] = []
        self._size = 0
        self._cleaner = Cleaner(streamed=True)

    @property
    def large(self) -> bool:
        return self._size > LARGE_BYTES

    def feed(self, piece: bytes) -> Iterator[bytes]:
        *lines, tail = piece.splitlines(keepends=True) or [b""]
        if tail.endswith((b"\n", b"\r")):
            lines, tail = [*lines, tail], b""
        for line in lines:
            self._add(line)
            yield self._take()
        if tail:
            self._add(tail)

    def end(self) -> Iterator[bytes]:
        if self._tail:
            yield self._take()

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        _check_size(self._size, self._limit)
        self._tail.append(part)

    def _take(self) -> bytes:
        line = b"".join(self._tail)
        self._tail, self._size = [], 0
        return mended_line(line, self._cleaner)


class OpaqueBody:
    """A stream that is neither lines nor text: it is given on as it comes."""

    large = False

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
    mended = _mended(answer, Cleaner(), streamed=False)
    return write_large_json(mended) if large else write_json(mended)


def mended_line(line: bytes, cleaner: Cleaner) -> bytes:
    """One line of a stream, mended. Raises `ReportedError` for an error."""
    body = line.strip()
    head = b"data:" if body.startswith(b"data:") else b""
    payload = body.removeprefix(head).strip()
    if not payload.startswith(b"{"):
        return line
    _check_values(payload)
    try:
        event = read_json(payload)
    except ValueError:
        return line
    if not isinstance(event, dict):
        return line
    end = line[len(line.rstrip(b"\r\n")) :]
    return head + (b" " if head else b"") + write_json(_mended(event, cleaner, streamed=True)) + end


def _mended(answer: dict[str, object], cleaner: Cleaner, *, streamed: bool) -> dict[str, object]:
    mended: dict[str, object] = cleaner.clean(answer)
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


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise AnswerTooLarge(
            f"the provider's answer is longer than {limit} bytes (LLM_QUEUE_MAX_ANSWER_BYTES)"
        )


def _check_values(raw: bytes) -> None:
    if len(raw) > _MOST_VALUES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > _MOST_VALUES:
        raise MalformedAnswer(f"the provider's answer is JSON of more than {_MOST_VALUES} values")
