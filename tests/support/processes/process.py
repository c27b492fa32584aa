"""A child process with a log file, in a process group of its own."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from support.processes.reaper import reaper
from support.processes.wait import wait_until


class ChildProcess:
    """Starts, watches and ends one child and whatever it starts itself.

    Signals go to its whole process group. What it writes goes to ``log_path``,
    which a restart appends to. Stopping twice, or before starting, is safe.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log_path = log_path
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None
        self._watch = ""
        self._log_from = 0

    def start(self) -> None:
        """Start it; returns as soon as the process exists.

        Raises:
            RuntimeError: it is running already.
        """
        if self.running:
            raise RuntimeError(f"already running as {self.pid}: {self.command}")
        with self.log_path.open("ab") as log:
            self._log_from = log.tell()
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        self._watch = reaper.watch(self._popen.pid)

    @property
    def pid(self) -> int:
        """The process id of the current (or the last) run."""
        if self._popen is None:
            raise RuntimeError(f"not started: {self.command}")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process exists and has not ended; a frozen one counts as running."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started; minus the signal's number if one ended it."""
        return None if self._popen is None else self._popen.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens if it has ended."""
        if self.running:
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for the end and return the exit code.

        Raises:
            AssertionError: it still runs after ``timeout_s`` seconds; carries the end of its log.
        """
        assert self._popen is not None, f"not started: {self.command}"
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {timeout_s:g} s:\n{self.log_tail()}") from None
        self._forget()
        return code

    def kill(self) -> None:
        """SIGKILL the whole group and reap it."""
        if self._popen is None:
            return
        # The group, even if its leader is gone: its children may live on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)
        self._forget()

    def stop(self, timeout_s: float = 30.0, number: int = signal.SIGTERM) -> int | None:
        """Ask it to end and return the exit code (None if it was never started).

        Raises:
            AssertionError: it did not end within ``timeout_s`` seconds; it is killed first.
        """
        if self._popen is None:
            return None
        self.thaw()
        # To the leader alone: what it started is its own affair, as under a service manager.
        if self.running:
            self._popen.send_signal(number)
        try:
            return self.wait(timeout_s)
        finally:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP the group and return once it stands still."""
        self.send_signal(signal.SIGSTOP)
        stopped = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
        wait_until(lambda: self.ps().status() in stopped, 5, f"{self} to be stopped")

    def thaw(self) -> None:
        """SIGCONT the group."""
        self.send_signal(signal.SIGCONT)

    def ps(self) -> psutil.Process:
        """The operating system's view of the process."""
        return psutil.Process(self.pid)

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process itself, in bytes."""
        return int(self.ps().memory_info().rss)

    @property
    def threads(self) -> int:
        """Number of the process's threads."""
        return int(self.ps().num_threads())

    @property
    def children(self) -> list[int]:
        """Process ids of everything it has started that still lives."""
        return [child.pid for child in self.ps().children(recursive=True)]

    @property
    def connections(self) -> int:
        """Number of the process's open TCP connections and listening sockets."""
        return len(self.ps().net_connections("tcp"))

    def logs(self, *, this_run: bool = False) -> str:
        """What it has written, in all its runs or since the last start."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._log_from if this_run else 0)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        """The last lines it has written."""
        return "\n".join(self.logs().splitlines()[-lines:])

    def wait_for_log(self, text: str, timeout_s: float = 30.0) -> None:
        """Wait until the current run has written ``text``.

        Raises:
            AssertionError: the process ended first, or the time is over; carries the end of its log.
        """

        def written() -> bool:
            if text in self.logs(this_run=True):
                return True
            if not self.running:
                raise AssertionError(f"{self} ended with {self.exit_code}:\n{self.log_tail()}")
            return False

        try:
            wait_until(written, timeout_s, f"{text!r} in the log of {self}")
        except AssertionError as failure:
            failure.add_note(self.log_tail())
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        pid = self._popen.pid if self._popen else "not started"
        return f"<{type(self).__name__} {Path(self.command[0]).name} {pid}>"

    def _forget(self) -> None:
        if self._watch:
            reaper.forget(self._watch)
            self._watch = ""
