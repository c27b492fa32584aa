from __future__ import annotations

import re
from collections.abc import Callable

_WORDS = re.compile(r"\s*\S+|\s+")
#: A word may come in pieces, and is not broken once its first piece stands.
_MARGIN = 8


class Typewriter:
    """Writes text as it comes, in lines with an indent."""

    def __init__(self, write: Callable[[str], None], *, width: int, indent: int) -> None:
        self._write = write
        self._width = width - _MARGIN
        self._indent = " " * indent
        self._column = 0

    def type(self, text: str) -> None:
        for word in _WORDS.findall(text):
            if self._column == 0:
                self._put(self._indent + word.lstrip())
            elif word[0].isspace() and (self._column + len(word) > self._width or "\n" in word):
                self.end_line()
                self._put(self._indent + word.lstrip())
            else:
                self._put(word)

    def end_line(self) -> None:
        self._write("\n")
        self._column = 0

    def _put(self, text: str) -> None:
        self._write(text)
        self._column += len(text)
