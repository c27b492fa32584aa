"""The compose file on a Docker engine: `pytest -m docker`.

It builds the image first, unless LLM_QUEUE_IMAGE names one; DOCKER_BUILD_ARGS are more arguments for that.
Images that the engine has under the compose file's names are taken as they are. Grafana is left out: it
only draws what Prometheus has.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from rustic_ai.llm_queue.resolver import QueueLLMResolver
from rustic_ai.llm_queue.tasks.job import JobState
from support.callers.llm import ask
from support.documents.deployment import DOCKER, make_secrets
from support.processes.wait import wait_until
from support.servers.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = DOCKER.parent
SERVICES = ("valkey", "worker", "flower", "prometheus")
WORKERS = 4
#: Stands for a provider, in a container on the queue's network.
PROVIDER = """
import json, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Provider(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "#slow" in json.dumps(body):
            time.sleep(8)
        message = {"role": "assistant", "content": "from a container"}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                  "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
ThreadingHTTPServer(("0.0.0.0", 8000), Provider).serve_forever()
"""


def _run(*command: str, **env: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Stack:
    """The compose project under test, with ports, secrets and volumes of its own."""

    def __init__(self, place: Path, image: str) -> None:
        self.secrets = make_secrets(place)
        self.name = f"llm-queue-test-{os.getpid()}"
        self.ports = {name: free_port() for name in ("VALKEY_PORT", "FLOWER_PORT", "PROMETHEUS_PORT")}
        self._env = {"LLM_QUEUE_IMAGE": image, **{name: str(port) for name, port in self.ports.items()}}
        keys = "OPENAI_API_KEY=sk-of-the-test\nOPENAI_BASE_URL=http://provider:8000/v1\n"
        (self.secrets / "providers.env").write_text(keys)
        override = place / "docker" / "provider.yaml"
        service = {
            "image": image,
            "entrypoint": ["python", "-c", PROVIDER.replace("$", "$$")],
            "networks": ["queue"],
            "healthcheck": {"disable": True},
        }
        override.write_text(json.dumps({"services": {"provider": service}}))
        files = ["-f", str(place / "docker" / "compose.yaml"), "-f", str(override)]
        program = shlex.split(os.environ.get("DOCKER_COMPOSE", "docker compose"))
        self._command = [*program, *files, "-p", self.name]

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; what it prints."""
        return _run(*self._command, *arguments, **self._env)

    def up(self) -> None:
        """Start what does not run, and wait until all of it is healthy."""
        scale = ["--scale", f"worker={WORKERS}"]
        self.compose("up", "-d", "--no-build", "--no-recreate", "--wait", *scale, *SERVICES, "provider")

    def containers(self, service: str) -> list[str]:
        """Ids of the service's containers, of those that have stopped, too."""
        return self.compose("ps", "--all", "-q", service).split()

    @property
    def agent_url(self) -> str:
        """Redis as agents on this machine see it."""
        url = (self.secrets / "agent_redis_url").read_text().strip()
        return url.replace(":6379", f":{self.ports['VALKEY_PORT']}")

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


@pytest.fixture(scope="module")
def image() -> str:
    if name := os.environ.get("LLM_QUEUE_IMAGE"):
        return name
    arguments = shlex.split(os.environ.get("DOCKER_BUILD_ARGS", ""))
    tag = "rusticai-llm-queue:test"
    file = str(DOCKER / "Dockerfile")
    _run("docker", "build", *arguments, "-f", file, "-t", tag, str(ROOT), DOCKER_BUILDKIT="1")
    return tag


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[Stack]:
    project = Stack(tmp_path_factory.mktemp("stack"), image)
    try:
        project.up()
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture
def agent(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> QueueLLMResolver:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", stack.agent_url)
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS_FILE", str(stack.secrets / "sealing_keys"))
    return QueueLLMResolver(model="openai/gpt-4o-mini", timeout=120)


def test_the_image_has_no_resolver_and_its_user_writes_nowhere(image: str) -> None:
    script = "id -u; find /opt -path '*llm_queue/resolver*'; touch /opt/llm-queue/x 2>&1 || echo refused"
    shown = _run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", script).split("\n")
    assert shown[0] == "10001"
    assert shown[-2] == "refused"
    assert "resolver" not in "".join(shown)


def test_a_call_goes_through_and_is_seen(stack: Stack, agent: QueueLLMResolver) -> None:
    wait_until(
        lambda: len(stack.flower("/api/workers?refresh=1")) == WORKERS, 40, "Flower to see every worker"
    )
    response = agent.resolve("acme", "support", "helper").completion(ask("hello"))
    assert response.choices[0].message.content == "from a container"
    shown = wait_until(lambda: stack.flower("/api/tasks"), 15, "the job in Flower")
    assert [one["guild"] for one in shown.values()] == ["support"]
    wait_until(lambda: stack.prometheus('sum(up{job="llm-queue"})') == [WORKERS], 60, "Prometheus' targets")
    wait_until(lambda: stack.prometheus("sum(llm_queue_jobs_total)") == [1], 60, "the job in Prometheus")


def test_prometheus_finds_the_rules_right(stack: Stack) -> None:
    (container,) = stack.containers("prometheus")
    for check in ("check config /etc/prometheus/prometheus.yml", "check rules /etc/prometheus/alerts.yml"):
        _run("docker", "exec", container, "promtool", *check.split())
    copied = "/prometheus/alerts"
    _run("docker", "exec", container, "mkdir", "-p", copied)
    for name in ("alerts.yml", "alerts_test.yml"):
        text = (DOCKER / "prometheus" / name).read_text()
        command = ["docker", "exec", "-i", container, "sh", "-c", f"cat > {copied}/{name}"]
        subprocess.run(command, input=text, text=True, check=True, timeout=30)
    tests = f"promtool test rules {copied}/alerts_test.yml"
    # Its own folder is all that it may write to.
    assert "SUCCESS" in _run("docker", "exec", "-e", "TMPDIR=/prometheus", container, *tests.split())


def test_a_worker_that_is_stopped_finishes_its_call(stack: Stack, agent: QueueLLMResolver) -> None:
    llm = agent.resolve("acme", "support", "helper")
    job = llm.submit(ask("take your time #slow"))
    wait_until(lambda: job.status() is JobState.RUNNING, 40, "the call in flight")
    stack.compose("stop", "worker")
    response = job.result()
    assert response.choices[0].message.content == "from a container"
    assert len(response.attempts) == 1
    containers = stack.containers("worker")
    codes = [_run("docker", "inspect", "-f", "{{.State.ExitCode}}", one).strip() for one in containers]
    assert codes == ["0"] * WORKERS
    stack.up()


def test_jobs_survive_a_killed_valkey(stack: Stack, agent: QueueLLMResolver) -> None:
    llm = agent.resolve("acme", "support", "helper")
    job = llm.submit(ask("take your time #slow"))
    wait_until(lambda: job.status() is JobState.RUNNING, 40, "the call in flight")
    (valkey,) = stack.containers("valkey")
    _run("docker", "kill", "-s", "KILL", valkey)
    _run("docker", "start", valkey)
    assert job.result().choices[0].message.content == "from a container"


def test_no_secret_is_in_a_containers_arguments_or_log(stack: Stack) -> None:
    urls = [(stack.secrets / f"{role}_redis_url").read_text() for role in ("worker", "flower")]
    secrets = [str(urlsplit(url).password) for url in urls]
    secrets.append((stack.secrets / "flower_auth").read_text().strip().partition(":")[2])
    shown = stack.compose("logs", "--no-color")
    for service in SERVICES:
        shown += "".join(_run("docker", "inspect", one) for one in stack.containers(service))
    assert not [secret for secret in secrets if secret in shown]
