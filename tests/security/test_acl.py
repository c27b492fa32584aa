"""Each role on Redis does its own work, and none of the others'."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from redis.asyncio import Redis

from rustic_ai.llm_queue.resolver import JobCancelled, JobHandle, JobState, QueueLLMResolver, QueueUnavailable
from rustic_ai.llm_queue.tasks.job import NORMAL
from rustic_ai.llm_queue.tasks.ledger.functions.library import library_name
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.flower import FlowerProcess
from support.servers.fortress import SHARE, Fortress
from support.servers.roles import PASSWORDS, users_acl
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import TTL, a_job

JOB = str(uuid.UUID(int=1))
#: What any role but an all-powerful one must not do.
ADMIN: dict[str, tuple[Any, ...]] = {
    "list all keys": ("KEYS", "*"),
    "scan": ("SCAN", "0"),
    "a random key": ("RANDOMKEY",),
    "flush": ("FLUSHALL",),
    "flush one database": ("FLUSHDB",),
    "configure": ("CONFIG", "GET", "*"),
    "change the configuration": ("CONFIG", "SET", "maxmemory", "1"),
    "read the users": ("ACL", "LIST"),
    "become another user": ("ACL", "SETUSER", "agent", "+@all"),
    "read the ACL log": ("ACL", "LOG"),
    "see the connections": ("CLIENT", "LIST"),
    "cut connections": ("CLIENT", "KILL", "TYPE", "normal"),
    "stop everybody": ("CLIENT", "PAUSE", "1"),
    "watch everything": ("MONITOR",),
    "be told of changed keys": ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "llmq:job:"),
    "see slow commands": ("SLOWLOG", "GET"),
    "see the channels": ("PUBSUB", "CHANNELS"),
    "shut down": ("SHUTDOWN", "NOSAVE"),
    "become a replica": ("REPLICAOF", "127.0.0.1", "1"),
    "save": ("SAVE",),
    "debug": ("DEBUG", "OBJECT", "x"),
    "run a script": ("EVAL", "return 1", "0"),
    "remove functions": ("FUNCTION", "FLUSH"),
    "remove one library": ("FUNCTION", "DELETE", "llmq"),
    "read functions": ("FUNCTION", "DUMP"),
    "flush scripts": ("SCRIPT", "FLUSH"),
    "kill a script": ("SCRIPT", "KILL"),
    "dump a record": ("DUMP", f"llmq:job:{JOB}"),
    "restore a record": ("RESTORE", f"llmq:job:{JOB}", "0", "x"),
    "copy a record": ("COPY", f"llmq:job:{JOB}", "llmq:idem:x"),
    "copy to another database": ("MOVE", f"llmq:job:{JOB}", "1"),
    "write another's key": ("SET", "rustic:messages", "x"),
    "read another's key": ("GET", "rustic:messages"),
}
#: What an agent must not do besides, for it is a worker's or Flower's to do.
NOT_AN_AGENTS: dict[str, tuple[Any, ...]] = {
    "use another database": ("SELECT", "1"),
    "run a loaded script": ("EVALSHA", "0" * 40, "0"),
    "load a script": ("SCRIPT", "LOAD", "return 1"),
    "load functions": ("FUNCTION", "LOAD", "REPLACE", "#!lua name=llmq\nredis.register_function('f', error)"),
    "list the waiting jobs": ("ZRANGE", "llmq:queued:llm:0", "0", "-1"),
    "list the running jobs": ("ZRANGEBYSCORE", "llmq:leases", "-inf", "+inf"),
    "list all jobs": ("ZRANGE", "llmq:deadlines", "0", "-1"),
    "list the withdrawn jobs": ("LRANGE", "llmq:withdrawn", "0", "-1"),
    "list the dead jobs": ("ZRANGE", "llmq:dead", "0", "-1"),
    "take a lease": ("ZADD", "llmq:leases", "1", JOB),
    "read a guild's running jobs": ("SMEMBERS", "llmq:running:x"),
    "make room in a guild's share": ("DEL", "llmq:running:x"),
    "read the wake-ups": ("LRANGE", "llm", "0", "-1"),
    "take a wake-up": ("BRPOP", "llm", "1"),
    "take several": ("BLMPOP", "1", "1", "llm", "LEFT"),
    "drop the queue": ("DEL", "llm"),
    "read the quarantine": ("LRANGE", "llmq:quarantine", "0", "-1"),
    "delete a job": ("DEL", f"llmq:job:{JOB}"),
    "delete a result": ("DEL", f"celery-task-meta-{JOB}"),
    "rename a result": ("RENAME", f"celery-task-meta-{JOB}", f"celery-task-meta-{uuid.uuid4()}"),
    "hear every result": ("PSUBSCRIBE", "celery-task-meta-*"),
    "hear every stream": ("PSUBSCRIBE", "llmq:frames:*"),
    "hear of every cancel": ("SUBSCRIBE", "llmq:cancel"),
    "hear everything": ("PSUBSCRIBE", "*"),
    "hear the workers' events": ("PSUBSCRIBE", "/0.celeryev/*"),
    "hear the commands": ("SUBSCRIBE", "/0.celery.pidbox"),
    "stop the workers": ("PUBLISH", "/0.celery.pidbox", "{}"),
    "forge an event": ("PUBLISH", "/0.celeryev/task.multi", "{}"),
    "answer for a worker": ("LPUSH", "x.reply.celery.pidbox", "{}"),
    "redirect the commands": ("SADD", "_kombu.binding.celery.pidbox", "x"),
}
#: What Flower must not do besides.
NOT_FLOWERS: dict[str, tuple[Any, ...]] = {
    "read a job": ("HGETALL", f"llmq:job:{JOB}"),
    "change a job": ("HSET", f"llmq:job:{JOB}", "state", "queued"),
    "read a result": ("GET", f"celery-task-meta-{JOB}"),
    "write a result": ("SET", f"celery-task-meta-{JOB}", "x"),
    "read a stream": ("XRANGE", f"llmq:stream:{JOB}", "-", "+"),
    "hear results": ("SUBSCRIBE", f"celery-task-meta-{JOB}"),
    "hear streams": ("PSUBSCRIBE", "llmq:frames:*"),
    "read the wake-ups": ("LRANGE", "llm", "0", "-1"),
    "take a wake-up": ("BRPOP", "llm", "1"),
    "send a wake-up": ("LPUSH", "llm", "x"),
    "call a function": ("FCALL", "llmq_submit", "0"),
    "load functions": ("FUNCTION", "LOAD", "x"),
    "list the waiting jobs": ("ZRANGE", "llmq:queued:llm:0", "0", "-1"),
    "forge an event": ("PUBLISH", "/0.celeryev/task.multi", "{}"),
}
#: What even a worker must not do.
NOT_A_WORKERS: dict[str, tuple[Any, ...]] = {
    "write outside of the queue": ("SET", "x", "1"),
    "hear another's channel": ("SUBSCRIBE", "rustic:messages"),
    "hear everything": ("PSUBSCRIBE", "*"),
    "speak on another's channel": ("PUBLISH", "rustic:messages", "x"),
}
REFUSED = [
    *[(role, act, command) for role in PASSWORDS for act, command in ADMIN.items()],
    *[("agent", act, command) for act, command in NOT_AN_AGENTS.items()],
    *[("flower", act, command) for act, command in NOT_FLOWERS.items()],
    *[("worker", act, command) for act, command in NOT_A_WORKERS.items()],
]


@pytest.fixture(scope="module")
def acl_server() -> Iterator[ValkeyServer]:
    """A server with the operators' users and no worker."""
    with ValkeyServer(acl=users_acl()) as server:
        yield server


@pytest.mark.parametrize(("role", "act", "command"), REFUSED, ids=[f"{one[0]}: {one[1]}" for one in REFUSED])
def test_no_role_does_what_is_anothers(
    acl_server: ValkeyServer, role: str, act: str, command: tuple[Any, ...]
) -> None:
    with redis.Redis.from_url(acl_server.url_for(role, PASSWORDS[role])) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)
        assert client.ping(), "it may do what is its own"


def test_nobody_enters_without_a_password_of_a_role(acl_server: ValkeyServer) -> None:
    for url in (acl_server.url, acl_server.url_for("default", "x"), acl_server.url_for("agent", "wrong")):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_the_file_as_it_stands_starts_no_server() -> None:
    """Placeholders that nobody replaced must not become passwords."""
    from support.servers.roles import USERS_ACL

    server = ValkeyServer(acl=USERS_ACL.read_text().splitlines())
    with pytest.raises(AssertionError, match=r"users\.acl"):
        server.start()
    server.close()


def _queued(handles: list[JobHandle], count: int) -> list[JobHandle] | None:
    queued = [one for one in handles if one.status() is JobState.QUEUED]
    return queued if len(queued) == count else None


def _denied(fortress: Fortress) -> list[str]:
    with fortress.server.client() as client:
        entries = client.execute_command("ACL", "LOG")
    return [f"{one['username']}: {one['context']} {one['object']}" for one in entries]


def test_every_role_does_its_own_work_and_nothing_is_refused(
    fortress: Fortress, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("whole", Step(text="forty-two"))
    assert llm().completion(ask("#whole")).choices[0].message.content == "forty-two"

    handle = llm().submit(ask("#whole"), idempotency_key="once")
    assert llm().submit(ask("#whole"), idempotency_key="once").id == handle.id
    assert handle.result()
    assert llm().job(handle.id).status().final

    provider.plan("streamed", Step(text="one two three", chunk_chars=4))
    with llm().stream(ask("#streamed")) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    provider.plan("held", Step(hold=True))
    held = llm().submit(ask("#held"))
    provider.wait_for_requests(1, "held")
    assert held.cancel()
    with pytest.raises(JobCancelled):
        held.result()

    provider.plan("crowd", Step(hold=True, times=None))
    crowd = [llm("acme", "crowd", "a").submit(ask(f"{at} #crowd")) for at in range(SHARE + 2)]
    provider.wait_for_requests(SHARE, "crowd")
    waiting = wait_until(lambda: _queued(crowd, 2), 5, "two jobs to wait for their guild's other calls")
    assert waiting is not None
    assert len(provider.requests("crowd")) == SHARE
    assert waiting[0].cancel()
    provider.release("crowd")
    for one in set(crowd) - {waiting[0]}:
        assert one.result()
    assert len(provider.requests("crowd")) == SHARE + 1

    with FlowerProcess(fortress.env("flower")) as flower:
        wait_until(lambda: fortress.worker.nodename in flower.get("/api/workers").text, 15, "the worker")
        assert "llm" in flower.get("/api/queues/length").text
        assert flower.get("/broker").status_code == 200
        provider.plan("stopped", Step(hold=True))
        stopped = llm().submit(ask("#stopped"))
        provider.wait_for_requests(1, "stopped")
        flower.post(f"/api/task/revoke/{stopped.id}", params={"terminate": "true"})
        with pytest.raises(JobCancelled):
            stopped.result()

    # The refusals that Redis put on record are those of other tests' attempts, if any.
    assert [one for one in _denied(fortress) if "toplevel" in one or "lua" in one or "multi" in one] == []


def test_an_agent_without_the_functions_is_told_what_to_do(
    acl_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with acl_server.client() as admin:
        admin.function_flush()
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", acl_server.url_for("agent", PASSWORDS["agent"]))
    llm = QueueLLMResolver(model="m").resolve("o", "g", "a")
    with pytest.raises(QueueUnavailable, match="load-functions"):
        llm.submit(ask("Hi"))


def test_the_functions_are_loaded_by_a_command_of_the_workers_role(acl_server: ValkeyServer) -> None:
    from click.testing import CliRunner

    from rustic_ai.llm_queue.worker.cli.main import commands

    with acl_server.client() as admin:
        admin.function_flush()
        urls = {role: acl_server.url_for(role, PASSWORDS[role]) for role in ("agent", "worker")}
        run = {
            role: CliRunner().invoke(commands, ["load-functions"], env={"LLM_QUEUE_REDIS_URL": url})
            for role, url in urls.items()
        }
        assert (run["agent"].exit_code, run["worker"].exit_code) == (1, 0)
        assert "may not load" in run["agent"].output
        assert [one[1] for one in admin.function_list()] == [library_name()]


async def test_a_worker_may_fill_the_places_that_it_keeps(acl_server: ValkeyServer) -> None:
    async with (
        Redis.from_url(acl_server.url_for("worker", PASSWORDS["worker"]), decode_responses=True) as worker,
        Redis.from_url(acl_server.url_for("agent", PASSWORDS["agent"]), decode_responses=True) as agent,
    ):
        of_the_worker = Ledger(worker, result_ttl=TTL)
        await of_the_worker.load()
        jobs = [a_job(priority=NORMAL) for _ in range(20)]
        for job in jobs:
            await Ledger(agent, result_ttl=TTL).submit(job)
        (wakeup,) = await of_the_worker.turns.wakeups_of_others("llm", (), most=2)
        assert json.loads(wakeup)["headers"]["id"] in {job.id for job in jobs}
        assert not await of_the_worker.turns.wakeups_of_others("llm", {jobs[0].owner.org}, most=2)


def test_an_agent_that_speaks_celerys_control_language_is_not_heard(
    fortress: Fortress, agent_settings: QueueSettings, llm: MakeLLM
) -> None:
    app: Celery = make_celery_app(agent_settings)
    try:
        with pytest.raises(Exception, match=r"permission"):
            app.control.shutdown()
    finally:
        app.close()
    assert llm().completion(ask("still there?"))


def test_a_forged_command_in_the_queue_harms_nobody(fortress: Fortress, llm: MakeLLM) -> None:
    body: dict[str, Any] = {"method": "shutdown", "arguments": {}, "destination": None}
    forged = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "headers": {},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"body_encoding": "base64", "delivery_tag": "x"},
    }
    with redis.Redis.from_url(fortress.url("agent")) as client:
        client.lpush("llm", json.dumps(forged))
    assert llm().completion(ask("still there?"))
    with fortress.server.client() as admin:
        wait_until(lambda: admin.llen("llmq:quarantine"), 5, "the quarantine")
