"""A Celery worker as a process of its own."""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir

APP = "rustic_ai.llm_queue.worker.app"
READY = "ready."


class WorkerProcess(ChildProcess):
    """``python -m celery -A APP worker``, in its own process group, with its own node name.

    `start` (or `with`) returns once the worker takes jobs. `kill`, `stop` (SIGTERM), `freeze`,
    `thaw`, `logs`, `rss_bytes`, `threads`, `children` come from `ChildProcess`.

    Args:
        env: settings on top of this process's environment, such as ``{"LLM_QUEUE_REDIS_URL": ...}``.
            A value of None takes the variable away.
        app: the Celery app to run.
        args: more arguments for ``celery worker``.
        command: the whole command instead, such as ``["-m", "rustic_ai.llm_queue.worker.cli", "worker"]``
            (after ``python``); then ``app``, ``args`` and ``nodename`` are the command's own affair.
        nodename: ``name@host`` as Celery knows it; by default one of its own.
        ready_log: what the worker logs when it takes jobs.
        ready_timeout_s: importing LiteLLM alone takes 7-10 s of CPU on a slow machine.
    """

    def __init__(
        self,
        env: Mapping[str, str | None] | None = None,
        *,
        app: str = APP,
        args: Sequence[str] = (),
        command: Sequence[str] | None = None,
        nodename: str | None = None,
        ready_log: str = READY,
        ready_timeout_s: float = 60.0,
        log_path: Path | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.nodename = nodename or f"w{secrets.token_hex(3)}@localhost"
        self._ready_log = ready_log
        self._ready_timeout_s = ready_timeout_s
        if command is None:
            command = ["-m", "celery", "-A", app, "worker", "-l", "INFO", "-n", self.nodename, *args]
        settings = dict(os.environ) | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        # A test that loaded LiteLLM in this process has left the limits of its own concurrency behind.
        for name in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST"):
            settings.pop(name, None)
        for key, value in (env or {}).items():
            settings.pop(key, None)
            if value is not None:
                settings[key] = value
        if log_path is None:
            log_path = scratch_dir("worker") / "worker.log"
        super().__init__([sys.executable, *command], log_path=log_path, env=settings, cwd=cwd)

    def start(self) -> None:
        """Start it and wait until it takes jobs.

        Raises:
            AssertionError: it ended, or was not ready in time; carries the end of its log.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it without waiting, to let several come up side by side."""
        super().start()

    def wait_ready(self) -> None:
        """Wait until the current run takes jobs; raises as `start` does."""
        self.wait_for_log(self._ready_log, self._ready_timeout_s)

    def restart(self) -> None:
        """SIGKILL and start again under the same node name."""
        self.kill()
        self.start()
