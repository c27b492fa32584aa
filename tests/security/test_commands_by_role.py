"""Every command, run as the very user on Redis that is to run it, and nothing is refused."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from rustic_ai.llm_queue.resolver.exceptions import BadRequestError
from rustic_ai.llm_queue.tasks.ledger.keys import BUDGET_PREFIX, BUDGETS, QUARANTINE
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.cli.redis_session import on_redis
from rustic_ai.llm_queue.worker.doctor.redis_checks import check_server
from rustic_ai.llm_queue.worker.settings import GUILD_LIMIT
from support.callers.llm import MakeLLM, ask
from support.documents.readme import ROOT
from support.processes.command import LlmQueue, Ran, command_names
from support.providers.provider import ProviderStub, Step
from support.servers.fortress import SHARE, Fortress
from support.servers.roles import PASSWORDS, users_acl
from support.servers.valkey import ValkeyServer

MINI = "openai/gpt-4o-mini"
#: Those that run until they are stopped are tested as their roles in test_acl.py.
SERVERS = {"worker", "flower"}
#: Made without Redis.
NO_ROLE = {"make-key"}
AS_WORKER: dict[str, tuple[str, ...]] = {
    "load-functions": (),
    "doctor": ("--json",),
    "jobs": ("--json",),
    "cancel": ("$DEAD",),
    "dead list": ("--json",),
    "dead show": ("$DEAD",),
    "dead replay": ("--all",),
    "dead drop": ("--all",),
    "quarantine list": ("--json",),
    "costs": ("--json",),
    "top": ("--once",),
    "limits": ("--json",),
    "pause": (GUILD_LIMIT, "--until", "1s", "--json"),
    "resume": (GUILD_LIMIT, "--json"),
    "budgets list": ("--json",),
    "budgets history": ("--json",),
    "budgets set": ("acme", "5", "--json"),
    "budgets rebuild": ("acme", "--json"),
    "cache stats": ("--json",),
    "cache clear": ("--org", "nobody", "--json"),
}
AS_AGENT: dict[str, tuple[str, ...]] = {
    "ask": ("#ok", "-m", MINI),
    "batch": ("$FILE", "-o", "$OUTPUT"),
}
#: What a command is right to report of a job that has ended, or of a user without administrator's rights.
EXPECTED = {"cancel": 1}


#: What `doctor` tries only to learn whether it is there: each refusal has words of its own in its answer.
MAY_BE_REFUSED = {"info", "acl|whoami", "acl|dryrun"}


def test_every_command_is_tried() -> None:
    assert set(command_names()) == {*AS_WORKER, *AS_AGENT, *SERVERS, *NO_ROLE}


@pytest.fixture
def run_as(
    fortress: Fortress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Runs a command as a role; fails when Redis refused that role anything."""

    def run(role: str, *arguments: str) -> Ran:
        for name, value in fortress.env(role).items():
            monkeypatch.setenv(name, value)
        # As the worker has it: `pause` and `resume` know the limits of the policy.
        monkeypatch.setenv("LLM_QUEUE_MAX_RUNNING_PER_GUILD", str(SHARE))
        monkeypatch.setenv("LLM_QUEUE_BUDGETS", '[{"name": "acme", "usd": 5}]')
        with fortress.server.client() as admin:
            admin.hset(f"{BUDGET_PREFIX}acme:x:total", mapping={"unit": "usd", "limit": 5, "held": 0})
            admin.expire(f"{BUDGET_PREFIX}acme:x:total", 60)
            admin.zadd(BUDGETS, {"acme:x:total": 1})
            admin.expire(BUDGETS, 60)
            admin.execute_command("ACL", "LOG", "RESET")
            ran = LlmQueue(monkeypatch, capsys)(*arguments)
            refused = [one for one in admin.execute_command("ACL", "LOG") if one["username"] == role]
        assert not [one["object"] for one in refused if one["object"] not in MAY_BE_REFUSED]
        return ran

    return run


@pytest.fixture
def dead_job(llm: MakeLLM, provider: ProviderStub) -> str:
    """A job that has failed for good."""
    provider.plan("bad", Step(status=400, times=None))
    handle = llm().submit(ask("#bad"))
    with pytest.raises(BadRequestError):
        handle.result()
    return handle.id


@pytest.mark.parametrize("command", sorted(AS_WORKER))
def test_as_the_workers_user(run_as: Callable[..., Ran], dead_job: str, command: str) -> None:
    arguments = [dead_job if one == "$DEAD" else one for one in AS_WORKER[command]]
    ran = run_as("worker", *command.split(), *arguments)
    assert ran.exit_code == EXPECTED.get(command, 0), ran
    if command == "dead list":
        assert dead_job in ran.out
    if command == "doctor":
        found = {one["check"]: one["verdict"] for one in json.loads(ran.out)}
        assert found["rights"] == "ok"


@pytest.mark.parametrize("command", sorted(AS_AGENT))
def test_as_the_agents_user(
    run_as: Callable[..., Ran], provider: ProviderStub, tmp_path: Any, command: str
) -> None:
    requests = tmp_path / "requests.jsonl"
    body = {"model": MINI, "messages": [{"role": "user", "content": "#ok"}]}
    requests.write_text(json.dumps({"custom_id": "a", "body": body}) + "\n")
    files = {"$FILE": str(requests), "$OUTPUT": str(tmp_path / "answers.jsonl")}
    ran = run_as("agent", command, *(files.get(one, one) for one in AS_AGENT[command]))
    assert ran.exit_code == 0, ran


def test_the_dead_are_listed_the_latest_first(
    run_as: Callable[..., Ran], llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("bad", Step(status=400, times=None))
    died = []
    for _ in range(3):
        handle = llm().submit(ask("#bad"))
        with pytest.raises(BadRequestError):
            handle.result()
        died.append(handle.id)
    listed = json.loads(run_as("worker", "dead", "list", "--limit", "2", "--json").out)
    assert [one["id"] for one in listed] == [died[2], died[1]]


# What doctor tries


@pytest.fixture(scope="module")
def acl_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(acl=users_acl()) as server:
        yield server


@pytest.fixture
def rights(acl_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[str, str]]:
    """What doctor finds of the worker's rights: the verdict, and what it says."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", acl_server.url_for("worker", PASSWORDS["worker"]))

    def look() -> tuple[str, str]:
        (found,) = [one for one in on_redis(check_server, QueueSettings()) if one.check == "rights"]
        return found.verdict, found.says

    return look


def _workers_commands() -> list[str]:
    (line,) = [one for one in users_acl() if one.startswith("user worker")]
    return re.findall(r"\+(\S+)", line)


#: Not used by anything that doctor could try: how a client begins, and what it does around a transaction.
AROUND = {"ping", "client|setinfo", "client|setname", "select", "exec", "watch", "unwatch", "unsubscribe",
          "punsubscribe"}  # fmt: skip


@pytest.mark.parametrize("command", [one for one in _workers_commands() if one not in AROUND])
def test_doctor_notices_a_command_that_is_missing(
    acl_server: ValkeyServer, rights: Callable[[], tuple[str, str]], command: str
) -> None:
    with acl_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", f"-{command}")
        try:
            verdict, says = rights()
        finally:
            admin.execute_command("ACL", "SETUSER", "worker", f"+{command}")
    assert verdict == "failure"
    assert command.partition("|")[0].upper() in says
    assert rights()[0] == "ok"


@pytest.mark.parametrize(
    "pattern", ["~llmq:*", "~llm??6", "~celery-task-meta-*", "&llmq:*", "&/0.celery.pidbox"]
)
def test_doctor_notices_keys_and_channels_that_are_missing(
    rights: Callable[[], tuple[str, str]], acl_server: ValkeyServer, pattern: str
) -> None:
    (line,) = [one for one in users_acl() if one.startswith("user worker")]
    rules = line.split()[2:]
    fewer = [one for one in rules if one != pattern]
    with acl_server.client() as admin:
        try:
            admin.execute_command("ACL", "SETUSER", "worker", "reset", *fewer)
            assert rights()[0] == "failure"
        finally:
            admin.execute_command("ACL", "SETUSER", "worker", "reset", *rules)
    assert rights()[0] == "ok"


def test_doctor_changes_nothing(rights: Callable[[], tuple[str, str]], acl_server: ValkeyServer) -> None:
    with acl_server.client() as admin:
        before = _everything(admin)
        assert rights()[0] == "ok"
        assert _everything(admin) == before


def _everything(client: Redis) -> set[object]:
    return {(key, client.type(key)) for key in client.keys("*")}


def test_the_functions_commands_are_all_tried() -> None:
    from rustic_ai.llm_queue.worker.doctor.rights import _NEEDED, _on_lists

    folder = ROOT / "tasks" / "src" / "rustic_ai" / "llm_queue" / "tasks" / "ledger" / "functions"
    used = {
        name for path in folder.glob("*.lua") for name in re.findall(r"redis\.call\('(\w+)", path.read_text())
    }
    assert used
    assert used <= {one[0] for one in (*_NEEDED, *_on_lists("llm"))}
    assert {one.lower() for one in used} <= set(_workers_commands()), "what the shipped ACL grants"
    assert QUARANTINE in {one[1] for one in _NEEDED if len(one) > 1}
