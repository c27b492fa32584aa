from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..answers.json_value import Cleaner
from ..failures.kinds import MalformedAnswer
from .bodies import read_event
from .lines import LARGE_BYTES, Lines, check_size

_DATA = b"data:"
_DONE = b"[DONE]"


class Events:
    """Server-sent events whose data are JSON objects, each read and mended once. No I/O.

    Lines of JSON without `data:` are taken for events, too. An event that the end of the stream cuts off
    is none.
    """

    def __init__(self, limit: int) -> None:
        """`limit` is the most bytes that an event may have."""
        self._limit = limit
        self._lines = Lines(limit)
        self._cleaner = Cleaner(streamed=True)
        #: Lines of an event whose first line is not yet its JSON.
        self._begun: list[bytes] = []
        self._begun_bytes = 0
        #: Whether the stream has said that it is over.
        self.done = False

    @property
    def had_large(self) -> bool:
        """One of the events so far was one for a thread."""
        return self._lines.had_large or self._begun_bytes > LARGE_BYTES

    def large_with(self, piece: bytes) -> bool:
        """Whether to feed `piece`, or to come to the end without one, is a step for a thread."""
        return self._begun_bytes > LARGE_BYTES or self._lines.large_with(piece)

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The events that one more piece completes.

        Raises `ReportedError` for an event that is an error, `JSONDecodeError` for one that is no JSON,
        `MalformedAnswer` for one that is another value, `AnswerTooLarge`.
        """
        for line in self._lines.feed(piece):
            if self.done:
                return
            if (event := self._line(line.strip())) is not None:
                yield event

    def end(self) -> Iterator[dict[str, Any]]:
        """An event in the last line, where that has no end."""
        for line in self._lines.end():
            payload = line.strip().removeprefix(_DATA).strip()
            if not (self.done or self._begun) and (event := read_event(payload, self._cleaner)) is not None:
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if not line:
            return self._joined() if self._begun else None
        if not line.startswith((_DATA, b"{")):
            return None
        payload = line.removeprefix(_DATA).strip()
        if not self._begun:
            if payload.startswith(_DONE):
                self.done = True
                return None
            event = read_event(payload, self._cleaner)
            if event is not None or not payload:
                return event
        self._begun.append(payload)
        self._begun_bytes += len(payload) + 1
        check_size(self._begun_bytes, self._limit)
        return None

    def _joined(self) -> dict[str, Any]:
        whole = b"\n".join(self._begun)
        self._begun, self._begun_bytes = [], 0
        event = read_event(whole, self._cleaner)
        if event is None:
            json.loads(whole)
            raise MalformedAnswer("the provider's stream holds an event that is not a JSON object")
        return event
