"""The compose file on a Docker engine, as it is delivered."""

import subprocess
from urllib.parse import urlsplit

import pytest

from rustic_ai.llm_queue.resolver import JobState, QueueLLM, QueueLLMResolver
from support.callers.llm import ask
from support.containers.stack import SERVICES, Stack, run
from support.documents.deployment import DOCKER
from support.processes.wait import wait_until
from support.providers.provider_plan import Step

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

WORKERS = 2


@pytest.fixture(autouse=True)
def running(stack: Stack) -> None:
    stack.up(WORKERS)


@pytest.fixture
def agent(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> QueueLLM:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", stack.url("agent"))
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS_FILE", str(stack.secrets / "sealing_keys"))
    return QueueLLMResolver(model="openai/gpt-4o-mini", timeout=120).resolve("acme", "support", "helper")


def test_the_image_has_no_resolver_and_its_user_writes_nowhere(image: str) -> None:
    script = "id -u; find /app -path '*llm_queue/resolver*'; touch /app/x 2>&1 || echo refused"
    shown = run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", script).split("\n")
    assert shown[0] == "10001"
    assert shown[-2] == "refused"
    assert "resolver" not in "".join(shown)


def test_a_call_goes_through_and_is_seen(stack: Stack, agent: QueueLLM) -> None:
    wait_until(
        lambda: len(stack.flower("/api/workers?refresh=1")) == WORKERS, 40, "Flower to see every worker"
    )
    stack.provider.plan("seen", Step(text="from a container"))
    response = agent.completion(ask("hello #seen"))
    assert response.choices[0].message.content == "from a container"
    shown = wait_until(lambda: stack.flower("/api/tasks"), 15, "the job in Flower")
    assert [one["guild"] for one in shown.values()] == ["support"]
    wait_until(lambda: stack.prometheus('sum(up{job="llm-queue"})') == [WORKERS], 60, "Prometheus' targets")
    wait_until(lambda: stack.prometheus("sum(llm_queue_jobs_total)") == [1], 60, "the job in Prometheus")


def test_prometheus_finds_the_rules_right(stack: Stack) -> None:
    (container,) = stack.containers("prometheus")
    for check in ("check config /etc/prometheus/prometheus.yml", "check rules /etc/prometheus/alerts.yml"):
        run("docker", "exec", container, "promtool", *check.split())
    copied = "/prometheus/alerts"
    run("docker", "exec", container, "mkdir", "-p", copied)
    for name in ("alerts.yml", "alerts_test.yml"):
        text = (DOCKER / "prometheus" / name).read_text()
        command = ["docker", "exec", "-i", container, "sh", "-c", f"cat > {copied}/{name}"]
        subprocess.run(command, input=text, text=True, check=True, timeout=30)
    tests = f"promtool test rules {copied}/alerts_test.yml"
    # Its own folder is all that it may write to.
    assert "SUCCESS" in run("docker", "exec", "-e", "TMPDIR=/prometheus", container, *tests.split())


def test_a_worker_that_is_stopped_finishes_its_call(stack: Stack, agent: QueueLLM) -> None:
    stack.provider.plan("slow", Step(delay_s=4, text="in its own time"))
    job = agent.submit(ask("take your time #slow"))
    stack.provider.wait_for_requests(1, "slow", timeout_s=40)
    stack.compose("stop", "worker")
    response = job.result()
    assert response.choices[0].message.content == "in its own time"
    assert len(response.attempts) == 1
    containers = stack.containers("worker")
    codes = [run("docker", "inspect", "-f", "{{.State.ExitCode}}", one).strip() for one in containers]
    assert codes == ["0"] * WORKERS
    stack.up(WORKERS)


def test_jobs_survive_a_killed_valkey(stack: Stack, agent: QueueLLM) -> None:
    stack.provider.plan("kept", Step(hold=True, text="kept"))
    job = agent.submit(ask("#kept"))
    stack.provider.wait_for_requests(1, "kept", timeout_s=40)
    # The file is written once a second.
    (valkey,) = stack.containers("valkey")
    run("docker", "kill", "-s", "KILL", valkey)
    run("docker", "start", valkey)
    stack.provider.release("kept")
    assert job.result().choices[0].message.content == "kept"
    wait_until(lambda: job.status() is JobState.ANSWERED, 20, "the record that says so")


def test_no_secret_is_in_a_containers_arguments_or_log(stack: Stack) -> None:
    urls = [(stack.secrets / f"{role}_redis_url").read_text() for role in ("worker", "flower")]
    secrets = [str(urlsplit(url).password) for url in urls]
    secrets.append((stack.secrets / "flower_auth").read_text().strip().partition(":")[2])
    shown = stack.compose("logs", "--no-color")
    for service in SERVICES:
        shown += "".join(run("docker", "inspect", one) for one in stack.containers(service))
    assert not [secret for secret in secrets if secret in shown]
