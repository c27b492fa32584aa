from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from failure import DemoFailed
from interruption import Interruption

_POLL_S = 0.02


class Child:
    """A process of the demo's, with its log in a file."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self, interruption: Interruption) -> None:
        with interruption.held_back(), self._log.open("wb") as log:
            # A session of its own: the terminal's Ctrl-C is for the demo, which then ends the rest in order.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Raises `DemoFailed`, with the end of its log, when it ends first or takes longer."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self._process.poll() if self._process else None
            if ended is not None:
                raise DemoFailed(f"{self.name} ended with {ended}:\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{self.name} was not ready after {timeout_s:g} s:\n{self._log_end()}")
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL for it and all it started when that is not enough. Stopping twice is safe."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _log_end(self) -> str:
        return "\n".join(self.log.splitlines()[-15:])
