"""A Redis in cluster mode: refused in one line where it is not set up as one; run with the users' rights."""

import json
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.resolver import QueueLLMResolver
from rustic_ai.llm_queue.resolver.configuration_error import ConfigurationError
from support.callers.llm import ask
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub
from support.servers.cluster import TAG, ValkeyCluster
from support.servers.flower import FlowerProcess
from support.servers.roles import ADMIN_PASSWORD, PASSWORDS, users_acl_with_tag
from support.workers.worker import WorkerProcess

SAYS = "Redis answers in cluster mode; set LLM_QUEUE_KEY_TAG=llmq"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries with the users that operators are given."""
    with ValkeyCluster(acl=users_acl_with_tag(TAG)) as cluster:
        yield cluster


@pytest.fixture
def plain_url(cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the environment: one node, as if it were all."""
    url = cluster.servers[0].url_for("worker", PASSWORDS["worker"])
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", url)
    return url


@pytest.fixture
def llm_queue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> LlmQueue:
    """The command, with the environment's settings."""
    return LlmQueue(monkeypatch, capsys)


@pytest.mark.usefixtures("plain_url")
@pytest.mark.parametrize("command", ["doctor", "costs", "load-functions", "flower"])
def test_a_command_says_what_to_set(llm_queue: LlmQueue, command: str) -> None:
    ran = llm_queue(command)
    assert ran.exit_code == 3
    assert SAYS in ran.err


def test_a_worker_does_not_start(plain_url: str) -> None:
    worker = WorkerProcess({"LLM_QUEUE_REDIS_URL": plain_url, "PYTHONWARNINGS": "ignore"})
    worker.launch()
    worker.wait()
    assert worker.exit_code == 3
    assert worker.logs().startswith(f"llm-queue: {SAYS}")


def test_a_cache_that_is_a_cluster_is_named_by_its_own_variable(
    cluster: ValkeyCluster, llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {
        **cluster.env,
        "LLM_QUEUE_REDIS_URL": cluster.url_for("worker", PASSWORDS["worker"]),
        "LLM_QUEUE_CACHE_URL": cluster.owner.url_for("worker", PASSWORDS["worker"]),
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ran = llm_queue("cache", "stats")
    worker = WorkerProcess({**env, "PYTHONWARNINGS": "ignore"})
    worker.launch()
    worker.wait()
    assert (ran.exit_code, worker.exit_code) == (3, 3)
    for said in (ran.err, worker.logs()):
        assert "begin LLM_QUEUE_CACHE_URL with redis+cluster://" in said


def test_an_agents_first_call_says_what_to_set(cluster: ValkeyCluster) -> None:
    url = cluster.owner.url_for("agent", PASSWORDS["agent"])
    llm = QueueLLMResolver(model="openai/gpt-4o-mini", redis_url=url).resolve("acme", "support", "helper")
    with pytest.raises(ConfigurationError, match=SAYS):
        llm.completion(ask("q"))
    for server in cluster.servers:
        with server.client() as client:
            assert not list(client.scan_iter("llmq:*")), "nothing of the call was written"


def test_agents_workers_and_doctor_with_their_users(
    cluster: ValkeyCluster,
    provider: ProviderStub,
    start_worker: type[WorkerProcess],
    llm_queue: LlmQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_worker(
        {
            **cluster.env,
            "LLM_QUEUE_REDIS_URL": cluster.url_for("worker", PASSWORDS["worker"]),
            **provider.env(),
        }
    )
    resolver = QueueLLMResolver(
        model="openai/gpt-4o-mini", redis_url=cluster.url_for("agent", PASSWORDS["agent"]), key_tag=TAG
    )
    llm = resolver.resolve("acme", "support", "helper")
    assert llm.completion(ask("q")).choices[0].message.content
    with llm.stream(ask("q")) as stream:
        assert "".join(chunk.text for chunk in stream)

    monkeypatch.setenv("LLM_QUEUE_KEY_TAG", TAG)
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", cluster.url_for("admin", ADMIN_PASSWORD))
    ran = llm_queue("doctor", "--json")
    found = {one["check"]: one for one in json.loads(ran.out)}
    assert {check for check, one in found.items() if one["verdict"] != "ok"} == {"sealing"}
    assert (
        found["mode"]["says"]
        == f"a cluster, of which slot {cluster.slot} is used; every key begins with {{llmq}}"
    )
    assert "agents" in found
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", cluster.url_for("worker", PASSWORDS["worker"]))
    ran = llm_queue("doctor", "--json")
    found = {one["check"]: one for one in json.loads(ran.out)}
    assert found["rights"]["verdict"] == "ok", found["rights"]
    assert json.loads(llm_queue("costs", "--json").out)["total"]["jobs"] == 2


def test_flower_shows_a_job_with_its_user(
    cluster: ValkeyCluster, provider: ProviderStub, start_worker: type[WorkerProcess]
) -> None:
    def env(role: str) -> dict[str, str]:
        return {**cluster.env, "LLM_QUEUE_REDIS_URL": cluster.url_for(role, PASSWORDS[role])}

    start_worker({**env("worker"), **provider.env()})
    llm = QueueLLMResolver(
        model="openai/gpt-4o-mini", redis_url=env("agent")["LLM_QUEUE_REDIS_URL"], key_tag=TAG
    ).resolve("acme", "support", "helper")
    with FlowerProcess(env("flower")) as flower:
        asked: list[str] = []

        def shown() -> bool:
            # Flower knows a job whose events came after it had begun to listen, and they take a moment.
            job = llm.submit(ask("q"))
            job.result()
            asked.append(job.id)
            replies = [flower.get(f"/api/task/info/{one}") for one in asked]
            return any(one.status_code == 200 and one.json()["state"] == "SUCCESS" for one in replies)

        wait_until(shown, 20, "Flower to show a job")
        assert flower.get("/api/queues/length").json()["active_queues"] == [{"name": "llm", "messages": 0}]
