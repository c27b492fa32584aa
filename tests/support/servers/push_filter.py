"""Drops or doubles pub/sub messages on their way from Redis to a client."""

from collections.abc import Callable
from enum import Enum


class Fate(Enum):
    """What becomes of a pub/sub message."""

    DELIVER = 1
    DROP = 0
    DOUBLE = 2


Decide = Callable[[str, bytes], Fate]
"""Decides by the channel and the payload."""

_KINDS = {b"message": 1, b"smessage": 1, b"pmessage": 2}
"""Pub/sub messages by their first word, and where the channel stands in them."""


class PushFilter:
    """One connection's filter: feed it what the server sends, pass on what it returns.

    It reads RESP2 and RESP3 replies whole, so that it never cuts or doubles half of one;
    everything but ``message``, ``smessage`` and ``pmessage`` goes through untouched.
    """

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the server; return those that are due to the client."""
        self._pending += data
        passed: list[bytes] = []
        start = 0
        while (end := reply_end(self._pending, start)) is not None:
            reply = self._pending[start:end]
            passed.append(reply * self._copies(reply))
            start = end
        self._pending = self._pending[start:]
        return b"".join(passed)

    def _copies(self, reply: bytes) -> int:
        if reply[:1] not in b"*>":
            return 1
        words = bulk_words(reply)
        position = _KINDS.get(words[0]) if words else None
        if position is None or len(words) < position + 2:
            return 1
        return self._decide(words[position].decode(errors="replace"), words[position + 1]).value


def reply_end(data: bytes, start: int) -> int | None:
    """Where the RESP reply that begins at ``start`` ends; None if it is not all there.

    Raises:
        ValueError: no RESP reply begins there.
    """
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, rest = data[start : start + 1], data[start + 1 : line_end]
    after = line_end + 2
    if kind in (b"+", b"-", b":", b"_", b",", b"#", b"("):
        return after
    length = int(rest)
    if kind in (b"$", b"=", b"!"):
        end = after if length < 0 else after + length + 2
        return end if end <= len(data) else None
    if kind not in (b"*", b"~", b">", b"%", b"|"):
        raise ValueError(f"not RESP: {data[start : start + 20]!r}")
    parts = length * 2 if kind in (b"%", b"|") else length
    # An attribute is followed by the reply it belongs to.
    parts += kind == b"|"
    for _ in range(parts):
        end_of_part = reply_end(data, after)
        if end_of_part is None:
            return None
        after = end_of_part
    return after


def bulk_words(reply: bytes) -> list[bytes]:
    """The strings of a flat array; an empty list if something else is in it."""
    words: list[bytes] = []
    at = reply.find(b"\r\n") + 2
    while at < len(reply):
        if reply[at : at + 1] != b"$":
            return []
        line_end = reply.find(b"\r\n", at)
        length = int(reply[at + 1 : line_end])
        words.append(reply[line_end + 2 : line_end + 2 + length])
        at = line_end + 2 + length + 2
    return words
