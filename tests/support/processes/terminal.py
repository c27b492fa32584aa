"""A command on a terminal of its own, and what that terminal shows."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

_TOKEN = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\r\n]|[^\x1b\r\n]+")
_CONTROL = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


def screen_after(output: str) -> str:
    """What a terminal shows after `output`, its colours as they came.

    Only as much of a terminal as rich's programs use: they write a row anew from its beginning, and
    go up, home or to another screen to get there.
    """
    rows, row, anew = [""], 0, False
    main = (rows, row)
    for token in _TOKEN.findall(output):
        control = _CONTROL.fullmatch(token)
        name, argument = (control[2], control[1]) if control else ("", "")
        if token == "\r" or name == "H":
            row, anew = (0 if control else row), True
        elif token == "\n":
            row += 1
        elif name == "A":
            row = max(row - int(argument or 1), 0)
        elif name == "K":
            rows[row] = ""
        elif argument == "?1049" and name == "h":
            main, rows, row, anew = (rows, row), [""], 0, True
        elif argument == "?1049" and name == "l":
            (rows, row), anew = main, True
        elif name == "m" or not token.startswith("\x1b"):
            rows[row], anew = (token if anew else rows[row] + token), False
        rows += [""] * (row + 1 - len(rows))
    return "\n".join(line.rstrip() for line in rows).strip("\n")


class TerminalProcess:
    """A command whose terminal has so many columns and rows."""

    def __init__(
        self, command: Sequence[str], *, columns: int, rows: int, env: Mapping[str, str] | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {**os.environ, **(env or {}), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._output = b""

    def read_until(self, shown: Callable[[str], bool], timeout_s: float) -> str:
        """The screen, as soon as it is one that was waited for.

        Raises:
            AssertionError: the command ended before, or the time is over; says what was seen.
        """
        deadline = time.monotonic() + timeout_s
        while not shown(screen := self._screen()):
            assert time.monotonic() < deadline, f"not seen in {timeout_s:g} s:\n{screen}"
            assert self._read(), f"ended with {self._process.wait(10)}:\n{screen}"
        return screen

    def read_all(self, timeout_s: float) -> str:
        """The screen when the command has ended well. Raises `AssertionError` when it does not."""
        deadline = time.monotonic() + timeout_s
        while self._read():
            assert time.monotonic() < deadline, f"no end in {timeout_s:g} s:\n{self._screen()}"
        assert self._process.wait(10) == 0, self._screen()
        return self._screen()

    def write(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """End it, as Ctrl-C does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            while self._read():
                pass
            self._process.wait(20)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)
            os.close(self._master)

    def __enter__(self) -> "TerminalProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _screen(self) -> str:
        return screen_after(self._output.decode(errors="replace"))

    def _read(self) -> bool:
        """Read what there is, or wait a moment for it. False when the terminal's other end is closed."""
        if not select.select([self._master], [], [], 0.2)[0]:
            return True
        try:
            read = os.read(self._master, 65536)
        except OSError:  # as Linux says that the last program has gone
            return False
        self._output += read
        return bool(read)
