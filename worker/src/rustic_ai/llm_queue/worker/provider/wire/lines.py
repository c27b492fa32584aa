from __future__ import annotations

from collections.abc import Iterator

from ..failures.kinds import AnswerTooLarge

#: What is longer is read and mended in a thread: milliseconds for each megabyte.
LARGE_BYTES = 512 * 1024
#: So is what has more values, by their separators: LiteLLM takes 30 microseconds for a tool call, and we one
#: for each value.
_LARGE_VALUES = 2_000


class Lines:
    """The lines of a stream, with their ends, put together from the pieces in which they come."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most bytes that one line may have."""
        self._limit = limit
        self._tail: list[bytes] = []
        self._size = self._values = 0
        #: One of the lines so far was one for a thread.
        self.had_large = False

    def large_with(self, piece: bytes) -> bool:
        """Whether the line under way, or one in `piece`, may be one for a thread."""
        return is_large(self._size + len(piece), self._values + separators(piece))

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that one more piece completes. Raises `AnswerTooLarge`."""
        *lines, tail = piece.splitlines(keepends=True) or [b""]
        if tail.endswith((b"\n", b"\r")):
            lines, tail = [*lines, tail], b""
        for line in lines:
            self._add(line)
            yield self._take()
        if tail:
            self._add(tail)

    def end(self) -> Iterator[bytes]:
        """What is left: a line without an end."""
        if self._tail:
            yield self._take()

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        check_size(self._size, self._limit)
        self._values += separators(part)
        self._tail.append(part)

    def _take(self) -> bytes:
        line = b"".join(self._tail)
        self.had_large = self.had_large or is_large(self._size, self._values)
        self._tail, self._size, self._values = [], 0, 0
        return line


def is_large(size: int, values: int) -> bool:
    """Whether JSON of so many bytes and values takes too long for the event loop, where all calls wait."""
    return size > LARGE_BYTES or values > _LARGE_VALUES


def separators(raw: bytes) -> int:
    """At least as many as there are values in JSON, but for the first."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def check_size(size: int, limit: int) -> None:
    """Raise `AnswerTooLarge` for an answer, or a line of a stream, of more bytes than `limit`."""
    if size > limit:
        raise AnswerTooLarge(
            f"the provider's answer is longer than {limit} bytes (LLM_QUEUE_MAX_ANSWER_BYTES)"
        )
