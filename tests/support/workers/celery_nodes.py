"""pytest-celery's nodes backed by processes, so that its ``celery_setup`` runs without Docker.

A node wraps a container; these containers are duck-typed processes with the same few methods. The
fixtures that use them are in ``tests/conftest.py``, under pytest-celery's own names;
``support.containers.celery_containers`` has the nodes that are containers, for ``tests/docker/nodes``.
"""

import json
import secrets
import signal as signals
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import celery
import psutil
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from support.processes.process import ChildProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess


class ProcessContainer:
    """What pytest-celery asks of a container, answered by a process."""

    def __init__(self, name: str, process: ChildProcess) -> None:
        self.name = name
        self.id = secrets.token_hex(32)
        self.process = process

    @property
    def status(self) -> str:
        """``running``, ``paused`` or ``exited``, in Docker's words."""
        if not self.process.running:
            return "exited"
        return "paused" if self.process.ps().status() == psutil.STATUS_STOPPED else "running"

    @property
    def main_pid(self) -> int:
        """The number of the worker, as it sees itself."""
        return self.process.pid

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """What Celery needs to reach it."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it serves."""
        return self.process.running

    def logs(self) -> str:
        """All it has written, in all its runs."""
        return self.process.logs()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal, and wait for the end if it is SIGKILL."""
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        if number is signals.SIGKILL:
            self.process.kill()
        else:
            self.process.send_signal(number)

    def restart(self, timeout: float = 60.0) -> None:
        """SIGTERM, SIGKILL after ``timeout`` seconds, and start again."""
        try:
            self.process.stop(timeout)
        finally:
            self.start()

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.process.start()

    def reload(self) -> None:
        """Nothing is cached."""

    def teardown(self) -> None:
        """Kill it. Twice is safe."""
        self.process.kill()


class ValkeyContainer(ProcessContainer):
    """A `ValkeyServer`, as broker and result backend in one."""

    def __init__(self, server: ValkeyServer) -> None:
        super().__init__("valkey", server.process)
        self.server = server

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = self.server.url
        return {
            "url": url,
            "host_url": url,
            "hostname": self.server.host,
            "port": self.server.port,
            "vhost": "0",
        }

    def start(self) -> None:
        self.server.start()

    def teardown(self) -> None:
        self.server.close()


class WorkerContainer(ProcessContainer):
    """A `WorkerProcess`."""

    def __init__(self, env: Mapping[str, str | None], *, queue: str, log_path: Path, **options: Any) -> None:
        container_id = secrets.token_hex(32)
        # pytest-celery builds a worker's hostname out of these two.
        nodename = f"{self.worker_name()}@{container_id[:12]}"
        self.worker = WorkerProcess(env, nodename=nodename, log_path=log_path, **options)
        super().__init__(self.worker_name(), self.worker)
        self.id = container_id
        self._queue = queue

    def ready(self) -> bool:
        """Waits until it takes jobs."""
        self.worker.wait_ready()
        return True

    @classmethod
    def version(cls) -> str:
        """Celery's version."""
        return str(celery.__version__)

    @classmethod
    def log_level(cls) -> str:
        """The worker's log level."""
        return "INFO"

    @classmethod
    def worker_name(cls) -> str:
        """The node name before the ``@``."""
        return "llm_queue_worker"

    def worker_queue(self) -> str:
        """The queue it consumes."""
        return self._queue

    def exec_run(self, command: str) -> tuple[int, bytes]:
        """The one command that pytest-celery runs in a worker: its processes, as JSON."""
        if "get_running_processes_info" not in command:
            return 127, f"cannot run {command!r}: this worker is a process".encode()
        family = [self.process.ps(), *self.process.ps().children(recursive=True)]
        columns = ["pid", "name", "username", "cmdline", "cpu_percent", "memory_percent", "create_time"]
        return 0, json.dumps([one.as_dict(columns) for one in family]).encode()


class ValkeyBroker(CeleryTestBroker):  # type: ignore[misc]  # pytest-celery has no types
    """The broker node."""


class ValkeyBackend(CeleryTestBackend):  # type: ignore[misc]  # pytest-celery has no types
    """The result backend node: the same server as the broker's."""


class WorkerNode(CeleryTestWorker):  # type: ignore[misc]  # pytest-celery has no types
    """The worker node; ``node.container.worker`` is its `WorkerProcess`."""
