from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP as one `KeyboardInterrupt`, which can be held back.

    Between the birth of a process and the note of its pid an interruption would leave an orphan.
    """

    def __init__(self) -> None:
        self._held = 0
        self._pending = False

    def install(self) -> None:
        """From here on they arrive here. Only in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    def ignore(self) -> None:
        """Nothing interrupts any more: what is being cleaned up is cleaned up to the end."""
        self._held += 1

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What arrives meanwhile is raised at the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            raise KeyboardInterrupt

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
        else:
            raise KeyboardInterrupt
