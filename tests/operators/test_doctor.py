"""`llm-queue doctor`: what is as it should be, and how to mend what is not."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.privacy.seal import make_key
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from rustic_ai.llm_queue.worker.doctor.worker_checks import ask_workers, check_workers
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.callers.llm import MakeLLM, ask
from support.processes.command import LlmQueue, Ran
from support.providers.provider import ProviderStub
from support.servers.ports import free_port
from support.servers.roles import ADMIN_PASSWORD, PASSWORDS, users_acl
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess


def verdicts(ran: Ran) -> dict[str, tuple[str, str]]:
    """What was found, by what was looked at: the verdict, and what says it and mends it."""
    found = json.loads(ran.out)
    return {one["check"]: (one["verdict"], f"{one['says']} | {one['mend']}") for one in found}


@pytest.fixture
def restricted() -> Iterator[ValkeyServer]:
    """A server with the users that operators are given."""
    with ValkeyServer(acl=users_acl()) as server:
        yield server


@pytest.mark.usefixtures("worker")
def test_all_is_well(
    llm_queue: LlmQueue, llm: MakeLLM, worker: WorkerProcess, provider: ProviderStub
) -> None:
    llm(model="openai/gpt-4.1-nano").completion(ask("seen"))
    ran = llm_queue("doctor", "--json")
    assert ran.exit_code == 0
    found = verdicts(ran)
    assert {check for check, (verdict, _) in found.items() if verdict != "ok"} == {"sealing"}
    assert "make-key" in found["sealing"][1]
    assert "anyone who can write to it can forge answers" in found["sealing"][1]
    assert worker.nodename in found["workers"][1]
    assert found["model openai/gpt-4.1-nano"][0] == "ok", "one that was seen"
    assert found.keys() >= {
        "redis",
        "clock",
        "version",
        "persistence",
        "eviction",
        "memory",
        "rights",
        "queue",
    }


@pytest.mark.usefixtures("worker")
def test_a_model_that_no_worker_has_a_key_for(llm_queue: LlmQueue) -> None:
    ran = llm_queue("doctor", "--model", "openai/gpt-4o", "--model", "groq/llama-3.3-70b-versatile")
    assert ran.exit_code == 1
    assert "model groq/llama-3.3-70b-versatile" in ran.out
    assert "set GROQ_API_KEY on the worker" in ran.out.replace("\n", " ")


@pytest.mark.usefixtures("worker")
def test_keys_that_the_workers_do_not_have(llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", make_key())
    ran = llm_queue("doctor", "--json")
    assert ran.exit_code == 1
    sealing = [one for one in json.loads(ran.out) if one["check"] == "sealing"]
    assert [one["verdict"] for one in sealing] == ["ok", "failure"]


def test_a_server_that_loses_jobs_and_a_queue_that_nobody_serves(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ValkeyServer(config={"maxmemory-policy": "allkeys-lru"}) as server:
        monkeypatch.setenv("LLM_QUEUE_REDIS_URL", server.url)
        with server.client() as client:
            client.hset(keys.job_key("old"), "created_ms", int(time.time() - 600) * 1000)
            client.zadd(keys.queued_key("llm", 3), {"old": 1})
            client.zadd(keys.DEAD, {"dead": 1})
        ran = llm_queue("doctor", "--json")
    assert ran.exit_code == 1
    found = verdicts(ran)
    assert found["eviction"][0] == "failure"
    assert "noeviction" in found["eviction"][1]
    assert found["persistence"][0] == "warning"
    assert "appendonly yes" in found["persistence"][1]
    assert found["workers"][0] == "failure"
    assert "llm-queue worker" in found["workers"][1]
    assert found["queue"][0] == "warning"
    assert "the oldest for 60" in found["queue"][1]
    assert found["dead jobs"][0] == "warning"


def test_the_workers_own_user(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, restricted: ValkeyServer
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", restricted.url_for("worker", PASSWORDS["worker"]))
    found = verdicts(llm_queue("doctor", "--json"))
    assert found["server"][0] == "warning"
    assert "INFO is not this user's to ask" in found["server"][1]
    assert found["rights"][0] == "ok", "it may do all that the queue does"
    assert "none answered" in found["workers"][1], "and ask the workers"
    for command in (("costs",), ("top", "--once")):
        assert llm_queue(*command).exit_code == 0
    with restricted.client() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "-subscribe")
    ran = llm_queue("doctor", "--json")
    assert ran.exit_code == 1
    assert verdicts(ran)["rights"][0] == "failure"
    assert "SUBSCRIBE llmq:cancel" in verdicts(ran)["rights"][1]
    with restricted.client() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "-zcard", "-time")
    ran = llm_queue("doctor", "--json")
    assert ran.exit_code == 1, "it goes on without what it may not ask"
    assert "TIME, " in verdicts(ran)["rights"][1]
    assert "ZCARD llmq:dead" in verdicts(ran)["rights"][1]


@pytest.mark.parametrize("user", ["flower", "agent"])
def test_a_user_who_may_not_read_jobs_is_told_so_by_each_command(
    restricted: ValkeyServer, llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", restricted.url_for(user, PASSWORDS[user]))
    found = {one["check"]: one for one in json.loads(llm_queue("doctor", "--json").out)}
    assert found["rights"]["verdict"] == "failure"
    if user == "flower":  # the one user of these who may send commands to workers
        assert found["models"]["says"] == "those seen are not this user's to read"
    ran = llm_queue("jobs")
    assert ran.exit_code == 4
    assert "run it as the worker's user of docker/redis/users.acl" in ran.err


def test_agents_whose_rights_are_an_older_releases(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, restricted: ValkeyServer
) -> None:
    """Their jobs are run all the same, but ahead of everybody's turn."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", restricted.url_for("admin", ADMIN_PASSWORD))
    assert verdicts(llm_queue("doctor", "--json"))["agents"][0] == "ok"
    with restricted.client() as admin:
        admin.execute_command("ACL", "SETUSER", "agent", "clearselectors")
    verdict, says = verdicts(llm_queue("doctor", "--json"))["agents"]
    assert verdict == "warning"
    assert "may not: LLEN llmq:arrivals:llm, LPUSH llmq:arrivals:llm" in says
    assert "docker/redis/users.acl" in says
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", restricted.url_for("worker", PASSWORDS["worker"]))
    assert "agents" not in verdicts(llm_queue("doctor", "--json")), "no other user may try its rights"


def test_a_wrong_password_is_named_and_not_shown(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, restricted: ValkeyServer
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", restricted.url_for("worker", "not-this"))
    for command in ("doctor", "costs"):
        ran = llm_queue(command)
        assert ran.exit_code == 4
        assert "refuses the login" in ran.out + ran.err
        assert "not-this" not in ran.out + ran.err


@pytest.mark.parametrize("command", [("doctor",), ("costs",), ("top", "--once")])
def test_a_redis_that_is_away(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}/0")
    ran = llm_queue(*command)
    assert ran.exit_code == 4
    assert "Redis cannot be reached at redis://127.0.0.1:" in (ran.out + ran.err).replace("\n", "")
    assert "secret" not in ran.out + ran.err
    assert "Traceback" not in ran.err


def test_something_that_is_not_redis(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, provider: ProviderStub
) -> None:
    port = provider.base_url("openai").split(":")[2].split("/")[0]
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    ran = llm_queue("costs")
    assert ran.exit_code == 4
    assert "is not Redis" in ran.err


def test_a_setting_that_is_wrong(llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "http://example.org")
    ran = llm_queue("doctor")
    assert ran.exit_code == 3
    assert "LLM_QUEUE_REDIS_URL" in ran.err


def test_a_workers_clock_that_is_off() -> None:
    answers: dict[str, dict[str, Any]] = {
        "fast": {"models": {}, "clock_skew_s": 7200.0},
        "slow": {"models": {}, "clock_skew_s": -3.0},
        "fine": {"models": {}, "clock_skew_s": 0.4},
        "of an older release": {"models": {}},
    }
    clocks = [one for one in check_workers(answers, [], QueueSettings()) if one.check == "clock"]
    assert [one.says for one in clocks] == [
        "fast's clock is 7200.0 s ahead of Redis'",
        "slow's clock is 3.0 s behind Redis'",
    ]
    assert all(one.verdict == "warning" and "NTP" in one.mend for one in clocks)


def test_workers_with_different_policies() -> None:
    policies = [WorkerSettings(limits=[{"name": "x", "rpm": rpm}]).policy_digest() for rpm in (5, 5, 6)]
    assert policies[0] == policies[1] != policies[2]
    answers = {f"w{at}": {"models": {}, "policy": policy} for at, policy in enumerate(policies)}
    (found,) = [one for one in check_workers(answers, [], QueueSettings()) if one.check == "policy"]
    assert found.verdict == "warning"
    assert "w0, w1" in found.says
    assert "LLM_QUEUE_POLICY" in found.mend
    del answers["w2"]
    assert not [one for one in check_workers(answers, [], QueueSettings()) if one.check == "policy"]


@pytest.mark.usefixtures("worker")
def test_a_worker_says_how_its_clock_is(redis_url: str) -> None:
    app = make_celery_app(QueueSettings(redis_url=redis_url))
    try:
        (answer,) = ask_workers(app, []).values()
    finally:
        app.close()
    assert abs(answer["clock_skew_s"]) < 1


@pytest.mark.usefixtures("worker")
def test_a_clock_that_is_off(llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    verdict, says = verdicts(llm_queue("doctor", "--json"))["clock"]
    assert verdict == "warning"
    assert "60.0 s behind" in says
