from __future__ import annotations

import re

_NEWLINE = re.compile(r"\r\n|\n|\r")


class EventLines:
    """Splits a stream's text into lines as server-sent events and JSON lines mean them.

    In the place of `httpx`'s decoder, which also splits at U+2028, U+0085 and others that may
    stand unescaped in a JSON text, and so breaks every answer that holds one.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._after_cr = False

    def decode(self, text: str) -> list[str]:
        """The lines that `text` completes, without their ends."""
        if self._after_cr:
            text = f"\r{text}"
        # It may be the first half of a line end.
        self._after_cr = text.endswith("\r")
        if self._after_cr:
            text = text[:-1]
        first, *rest = _NEWLINE.split(text)
        self._parts.append(first)
        if not rest:
            return []
        lines = ["".join(self._parts), *rest]
        self._parts = [lines.pop()]
        return lines

    def flush(self) -> list[str]:
        """The last line, if it had no end."""
        last, ended = "".join(self._parts), self._after_cr
        self._parts, self._after_cr = [], False
        return [last] if last or ended else []
