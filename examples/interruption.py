from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: How long after it was raised an interruption is raised again, until somebody heeds it.
_AGAIN_S = 2.0


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP as one `KeyboardInterrupt`, which can be held back.

    Between the birth of a process and the note of its pid an interruption would leave an orphan. And
    Python drops what is raised while it happens to run a finalizer: so it is raised until `ignore`.
    """

    def __init__(self) -> None:
        self._held = 0
        self._pending = False

    def install(self) -> None:
        """From here on they arrive here. Only in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, self._arrived)

    def ignore(self) -> None:
        """Nothing interrupts any more: what is being cleaned up is cleaned up to the end."""
        self._held += 1
        signal.setitimer(signal.ITIMER_REAL, 0)

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
            self._raise()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
        else:
            self._raise()

    @staticmethod
    def _raise() -> NoReturn:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        raise KeyboardInterrupt
