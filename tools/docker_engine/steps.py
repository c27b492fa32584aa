"""Programs that are run, and how long each step took."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class StepFailed(Exception):
    """A step could not be done; the message says which, why, and what to do."""


class Steps:
    """Prints a line for each step that is done, with its seconds and those of all of them."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def done(self, what: str) -> None:
        """Print `what` with the seconds since the step before."""
        now = time.monotonic()
        print(f"docker-test: {now - self._last:6.1f} s  {what}", file=sys.stderr, flush=True)
        self._last = now

    def total(self) -> None:
        """Print the seconds of all steps together."""
        self._last = self._start
        self.done("in all")


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout_s: float = 600,
) -> str:
    """What the command prints. Raises `StepFailed` with its last lines when it fails or takes too long."""
    words = [str(word) for word in command]
    shown = " ".join(words)[:200]
    try:
        done = subprocess.run(
            words,
            env=env,
            cwd=cwd,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise StepFailed(f"`{shown}` did not end within {timeout_s:.0f} s") from late
    except OSError as error:
        raise StepFailed(f"`{shown}` cannot be run: {error}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise StepFailed(f"`{shown}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def succeeds(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout_s: float = 30
) -> bool:
    """Whether the command can be run and ends with 0 in time."""
    try:
        run(command, env=env, timeout_s=timeout_s)
    except StepFailed:
        return False
    return True
