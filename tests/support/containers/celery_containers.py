"""pytest-celery's own containers, of Valkey's image and of the project's."""

import json
from typing import Any

from pytest_celery import CeleryTestWorker, CeleryWorkerContainer, RedisContainer

from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE

_CHILDREN_OF_THE_INIT = """
from pathlib import Path
for stat in Path("/proc").glob("[0-9]*/stat"):
    state, parent, *_ = stat.read_text().rpartition(")")[2].split()
    if parent == "1":
        print(stat.parent.name)
"""


class ValkeyContainer(RedisContainer):  # type: ignore[misc]  # pytest-celery has no types
    """Valkey's image: the same protocol as Redis', and a log that says the same when it serves."""

    @property
    def port(self) -> int:
        """The published port.

        Where the tests run in a container, pytest-docker-tools would answer with the port inside.
        """
        self.reload()
        return int(self.attrs["NetworkSettings"]["Ports"]["6379/tcp"][0]["HostPort"])

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """A server whose data outlasts a restart, as in the compose file."""
        kept = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return ["valkey-server", *kept, "--maxmemory-policy", "noeviction", "--protected-mode", "no", *args]


class LlmQueueWorkerContainer(CeleryWorkerContainer):  # type: ignore[misc]  # pytest-celery has no types
    """The project's image as it is: its entry point and its user, and no volume with an app in it."""

    @property
    def main_pid(self) -> int:
        """The number of the worker, the one child of the image's init, as it sees itself."""
        _, found = super().exec_run(["python", "-c", _CHILDREN_OF_THE_INIT])
        (pid,) = found.split()
        return int(pid)

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """What follows the image's entry point."""
        return ["worker", "--name", f"{cls.worker_name()}@%h", *args]

    @classmethod
    def worker_name(cls) -> str:
        """The node name before the ``@``."""
        return "llm_queue_worker"

    @classmethod
    def worker_queue(cls) -> str:
        """The queue it consumes."""
        return DEFAULT_QUEUE

    def exec_run(self, command: str, *rest: Any, **options: Any) -> Any:
        """Run a command in the container; processes are the engine's list, as the image has no psutil."""
        if "get_running_processes_info" not in command:
            return super().exec_run(command, *rest, **options)
        shown = self._container.top()
        rows = [dict(zip(shown["Titles"], one, strict=True)) for one in shown["Processes"]]
        return 0, json.dumps(
            [{"pid": int(row["PID"]), "cmdline": row["CMD"].split()} for row in rows]
        ).encode()


class WorkerContainerNode(CeleryTestWorker):  # type: ignore[misc]  # pytest-celery has no types
    """The worker node."""
