"""A sitter process that kills what a test session leaves behind, however the session dies."""

import atexit
import os
import subprocess
import sys

import psutil

# Reads "+pid started" and "-pid started"; when its standard input ends, the session is gone.
_SITTER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(line[1:].strip())
for group in groups:
    pid, ticks = group.split()
    try:
        stat = open(f"/proc/{pid}/stat").read()
        if stat.rpartition(")")[2].split()[19] == ticks:
            os.killpg(int(pid), signal.SIGKILL)
    except OSError:
        continue
"""


class Reaper:
    """Kills registered process groups once this process is gone.

    A group is known by its leader's pid and start time, so that a pid that the
    kernel has given to somebody else is left alone.
    """

    def __init__(self) -> None:
        self._sitter: subprocess.Popen[str] | None = None
        self._owner = 0

    def watch(self, pid: int) -> str:
        """Register a process group; give the returned word to `forget` once it has ended."""
        word = f"{pid} {_start_ticks(pid)}"
        self._tell(f"+{word}")
        return word

    def forget(self, word: str) -> None:
        """The group has ended in the ordinary way."""
        self._tell(f"-{word}")

    def _tell(self, line: str) -> None:
        if self._sitter is None:
            self._sitter = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _SITTER],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._owner = os.getpid()
            atexit.register(self._close)
        assert self._sitter.stdin is not None
        self._sitter.stdin.write(line + "\n")
        self._sitter.stdin.flush()

    def _close(self) -> None:
        # A fork of this process inherits the hook, but neither the children nor the sitter.
        if self._sitter is not None and os.getpid() == self._owner:
            assert self._sitter.stdin is not None
            self._sitter.stdin.close()
            self._sitter.wait(timeout=10)


def _start_ticks(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:  # no /proc: the sitter then has nothing to compare and leaves the group alone
        return str(psutil.Process(pid).create_time())


reaper = Reaper()
