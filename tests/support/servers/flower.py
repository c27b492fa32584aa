"""Flower as a process of its own, and a client that knows its password."""

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from flower.urls import handlers

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir

_AT = re.compile(r"Flower is at (http\S+?)/?\n")
#: What anyone may read: whether Flower lives, and its scripts and styles.
_OPEN = ("/healthcheck", "/static/")


class FlowerProcess(ChildProcess):
    """`llm-queue flower` on a free port of loopback.

    Args:
        env: settings on top of this process's environment; None takes a variable away.
        args: more arguments for `llm-queue flower`.
        auth: `user:password`; by default one of its own.
    """

    def __init__(
        self,
        env: Mapping[str, str | None] | None = None,
        *,
        args: Sequence[str] = (),
        auth: str | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.auth = auth or f"operator:{secrets.token_urlsafe(12)}"
        settings = dict(os.environ) | {"LLM_QUEUE_FLOWER_AUTH": self.auth, "PYTHONUNBUFFERED": "1"}
        for key, value in (env or {}).items():
            settings.pop(key, None)
            if value is not None:
                settings[key] = value
        command = [sys.executable, "-m", "rustic_ai.llm_queue.worker.cli", "flower", "--port", "0", *args]
        super().__init__(command, log_path=log_path or scratch_dir("flower") / "flower.log", env=settings)
        self.url = ""
        self._client: httpx.Client | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        self.wait_for_log("Flower is at ", 30)
        match = _AT.search(self.logs())
        assert match is not None, self.logs()
        self.url = match[1]
        user, _, password = self.auth.partition(":")
        self._client = httpx.Client(base_url=self.url, auth=(user, password), timeout=20)

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        super().__exit__()

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET with the password."""
        assert self._client is not None
        return self._client.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST with the password."""
        assert self._client is not None
        return self._client.post(path, **options)

    def readable_paths(self, job_id: str) -> list[str]:
        """Every address of Flower's that is not open to all, with a job's id where one belongs."""
        return [path for path in _paths(job_id) if not path.startswith(_OPEN)]

    def writable_paths(self, job_id: str) -> list[str]:
        """Every address that changes something."""
        return [path for path in _paths(job_id) if path.startswith(("/api/worker/", "/api/task/"))]


def _paths(job_id: str) -> list[str]:
    patterns = [one.regex.pattern if hasattr(one, "regex") else one[0] for one in handlers]
    known = [pattern.rstrip("$") for pattern in patterns if pattern not in (r".*", r"/login/?", r"/logout$")]
    return [re.sub(r"\([^)]*\)", job_id, pattern) for pattern in known]
