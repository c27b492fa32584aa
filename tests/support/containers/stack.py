"""The compose file's project on an engine, with ports, secrets and volumes of a test's own."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from support.containers.simulator import client_of, simulator_service
from support.documents.deployment import make_secrets
from support.servers.ports import free_port

#: Grafana is left out: it only draws what Prometheus has.
SERVICES = ("valkey", "worker", "flower", "prometheus")
_PORTS = ("VALKEY_PORT", "FLOWER_PORT", "PROMETHEUS_PORT")


def run(*command: str, env: Mapping[str, str] | None = None, timeout_s: float = 300) -> str:
    """What the command prints. Raises `AssertionError` with all of it when it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Stack:
    """The project of `compose.yaml`, and the provider's simulator beside it.

    Args:
        place: an empty folder, for a copy of `docker/` with secrets of its own.
        worker_env: settings of workers beyond those of the compose file.
    """

    def __init__(self, place: Path, image: str, worker_env: Mapping[str, str] | None = None) -> None:
        self.secrets = make_secrets(place)
        self.name = f"llm-queue-test-{os.getpid()}"
        self.ports = {name: free_port() for name in _PORTS}
        self._env = {"LLM_QUEUE_IMAGE": image, **{name: str(port) for name, port in self.ports.items()}}
        published = free_port()
        self.provider = client_of(published, "provider")
        keys = "".join(f"{name}={value}\n" for name, value in self.provider.env().items())
        (self.secrets / "providers.env").write_text(keys)
        # Tests wait for the first probe after a start: it is not to take half a minute. A machine that is
        # busy may take its time for each.
        often = {"healthcheck": {"interval": "2s", "timeout": "30s", "retries": 20}}
        services = {
            "provider": simulator_service(image, published),
            "worker": {"environment": dict(worker_env or {}), **often},
            "flower": often,
            "valkey": often,
        }
        override = place / "docker" / "provider.yaml"
        override.write_text(json.dumps({"services": services}))
        files = ["-f", str(place / "docker" / "compose.yaml"), "-f", str(override)]
        program = shlex.split(os.environ.get("DOCKER_COMPOSE", "docker compose"))
        self._command = [*program, *files, "-p", self.name]

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; what it prints."""
        return run(*self._command, *arguments, env=self._env)

    def up(self, workers: int, *services: str) -> None:
        """Start what does not run of these services (all of them), and wait until it is healthy."""
        scale = ["--scale", f"worker={workers}"]
        wanted = services or (*SERVICES, "provider")
        self.compose("up", "-d", "--no-build", "--no-recreate", "--wait", *scale, *wanted)

    def down(self) -> None:
        """Remove all of it, with its data."""
        self.provider.close()
        self.compose("down", "--volumes", "--timeout", "5")

    def containers(self, service: str) -> list[str]:
        """Ids of the service's containers, of those that have stopped, too."""
        return self.compose("ps", "--all", "-q", service).split()

    def url(self, role: str) -> str:
        """Redis as this machine sees it, with a role's user."""
        url = (self.secrets / f"{role}_redis_url").read_text().strip()
        return f"{url.partition('@')[0]}@127.0.0.1:{self.ports['VALKEY_PORT']}/0"

    def flower(self, path: str) -> Any:
        """What Flower's API says."""
        user, _, password = (self.secrets / "flower_auth").read_text().strip().partition(":")
        url = f"http://127.0.0.1:{self.ports['FLOWER_PORT']}{path}"
        return httpx.get(url, auth=(user, password), timeout=20).json()

    def prometheus(self, query: str) -> list[float]:
        """The values of a query."""
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/query"
        found = httpx.get(url, params={"query": query}, timeout=20).json()["data"]["result"]
        return [float(one["value"][1]) for one in found]
