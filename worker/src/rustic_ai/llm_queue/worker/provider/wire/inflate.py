from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..failures.kinds import MalformedAnswer

#: What requests ask for: the encodings that can be undone bit by bit.
ACCEPTED = "gzip, deflate"
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_PIECE_BYTES = 64 * 1024


class Inflater:
    """Undoes the compression of a body in small pieces: a megabyte of it may hold a gigabyte."""

    def __init__(self, encoding: str) -> None:
        """`encoding` is the value of `Content-Encoding`. Raises `MalformedAnswer` for one not asked for."""
        names = [name for one in encoding.split(",") if (name := one.strip().lower()) not in ("", "identity")]
        if len(names) > 1 or not {*names} <= {"gzip", "x-gzip", "deflate"}:
            raise MalformedAnswer(f"the provider's answer is encoded as {encoding[:100]!r}")
        self._name = names[0] if names else None
        self._engine = zlib.decompressobj(_ZLIB if self._name == "deflate" else _GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes in one more piece. Raises `MalformedAnswer`."""
        if self._name is None:
            yield data
            return
        while data:
            try:
                piece = self._engine.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                if self._begun or self._name != "deflate":
                    raise MalformedAnswer(f"the provider's answer does not decompress: {error}") from None
                # Some servers send deflate without its head.
                self._engine, self._begun = zlib.decompressobj(_RAW), True
                continue
            self._begun = True
            if piece:
                yield piece
            data = self._engine.unconsumed_tail
