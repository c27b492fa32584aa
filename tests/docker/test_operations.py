"""What operators do with the compose file: look, change keys and passwords, stop and start."""

import json
import subprocess

import pytest
import redis

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from support.callers.llm import ask
from support.containers.stack import Stack, run
from support.documents.deployment import make_secrets
from support.processes.wait import wait_until
from support.providers.provider_client import API_KEY
from support.providers.provider_plan import Step

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

METRICS = 9464
#: A worker has it once it takes jobs.
ALIVE = "/tmp/llm-queue-alive"


@pytest.fixture(autouse=True)
def running(stack: Stack) -> None:
    stack.up(1)


@pytest.fixture
def agent(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> QueueLLM:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", stack.url("agent"))
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS_FILE", str(stack.secrets / "sealing_keys"))
    stack.provider.reset()
    return QueueLLMResolver(model="openai/gpt-4o-mini", timeout=120).resolve("acme", "support", "helper")


def _only(stack: Stack, service: str) -> str:
    (container,) = stack.containers(service)
    return container


def _address(container: str, network: str) -> str:
    found = json.loads(run("docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", container))
    (address,) = [one["IPAddress"] for name, one in found.items() if name.endswith(network)]
    return str(address)


def _reaches(container: str, address: str) -> bool:
    script = f"import socket; socket.create_connection(('{address}', {METRICS}), 5)"
    command = ["docker", "exec", container, "python", "-c", script]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def test_no_providers_key_is_shown_by_inspect(stack: Stack, agent: QueueLLM) -> None:
    stack.provider.plan("key", Step(text="with a key"))
    agent.completion(ask("#key"))
    (request,) = stack.provider.requests("key")
    assert request.header("authorization") == f"Bearer {API_KEY}", "the worker has it"
    shown = run("docker", "inspect", *stack.containers("worker"))
    assert API_KEY not in shown


def test_a_worker_logs_json_and_nothing_else(stack: Stack) -> None:
    lines = _logs(_only(stack, "worker")).splitlines()
    assert lines
    assert [json.loads(line)["level"] for line in lines]


def test_commands_work_in_a_workers_container(stack: Stack) -> None:
    worker = ("exec", "-T", "worker", "llm-queue")
    assert json.loads(stack.compose(*worker, "jobs", "--json")) == []
    looked = json.loads(stack.compose(*worker, "doctor", "--json"))
    assert "failure" not in [one["verdict"] for one in looked], looked


def test_the_administrator_sees_what_workers_may_not(stack: Stack) -> None:
    looked = json.loads(stack.compose("run", "--rm", "-T", "admin", "doctor", "--json"))
    found = {one["check"]: one for one in looked}
    assert found["persistence"]["says"] == "append-only file"
    assert found["eviction"]["verdict"] == "ok"
    with redis.Redis.from_url(stack.url("admin")) as admin:
        assert admin.execute_command("ACL", "LOAD") in (b"OK", "OK", True)
        assert admin.config_get("save")["save"] == ""


def test_metrics_are_reached_from_prometheus_network_alone(stack: Stack) -> None:
    worker, flower = _only(stack, "worker"), _only(stack, "flower")
    wait_until(lambda: _reaches(worker, _address(worker, "_metrics")), 30, "the metrics")
    assert not _reaches(worker, _address(worker, "_queue"))
    assert not _reaches(flower, _address(worker, "_queue"))


def test_a_worker_that_is_stopped_while_it_starts_ends_at_once(stack: Stack) -> None:
    worker = _only(stack, "worker")
    run("docker", "stop", "--time", "70", worker)
    run("docker", "start", worker)
    # Not even Python has started: the init, which is the first process, passes the signal on.
    assert subprocess.run(["docker", "exec", worker, "test", "-e", ALIVE], check=False).returncode != 0
    run("docker", "stop", "--time", "30", worker)
    code = run("docker", "inspect", "-f", "{{.State.ExitCode}}", worker).strip()
    stack.up(1)
    assert code in ("0", "143"), "137 would be a kill"


def test_a_worker_outlasts_a_valkey_whose_name_is_gone(stack: Stack, agent: QueueLLM) -> None:
    stack.provider.plan("gone", Step(hold=True, text="and back"))
    job = agent.submit(ask("#gone"))
    stack.provider.wait_for_requests(1, "gone", timeout_s=40)
    valkey, worker = _only(stack, "valkey"), _only(stack, "worker")
    # An engine answers for the names of containers that run, and for no other.
    run("docker", "stop", valkey)
    wait_until(lambda: "resolution" in _logs(worker), 60, "the worker to miss the name")
    run("docker", "start", valkey)
    stack.provider.release("gone")
    assert job.result().choices[0].message.content == "and back"
    assert "never retrieved" not in _logs(worker)


def _logs(container: str) -> str:
    """Both of its streams."""
    return run("sh", "-c", 'docker logs "$1" 2>&1', "-", container)


def test_new_passwords_and_a_new_providers_key(
    stack: Stack, agent: QueueLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stack.url("agent")
    keys = stack.secrets / "providers.env"
    keys.write_text(keys.read_text().replace(API_KEY, "sk-the-next-one"))
    (stack.secrets / "users.acl").unlink()
    make_secrets(stack.secrets.parents[1])
    stack.compose("up", "-d", "--no-build", "--force-recreate", "--wait", "valkey", "worker", "flower")
    with redis.Redis.from_url(before) as old, pytest.raises(redis.AuthenticationError):
        old.ping()
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", stack.url("agent"))
    llm = QueueLLMResolver(model="openai/gpt-4o-mini", timeout=120).resolve("acme", "support", "helper")
    stack.provider.plan("new", Step(text="with the next key"))
    assert llm.completion(ask("#new")).choices[0].message.content == "with the next key"
    (request,) = stack.provider.requests("new")
    assert request.header("authorization") == "Bearer sk-the-next-one"


def test_without_secrets_compose_says_what_to_run(stack: Stack) -> None:
    (stack.secrets.parent / ".env").unlink()
    with pytest.raises(AssertionError, match="there are no secrets yet, run docker/make-secrets"):
        stack.compose("config")
    make_secrets(stack.secrets.parents[1])
    stack.compose("config")
