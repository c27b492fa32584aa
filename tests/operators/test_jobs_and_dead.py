"""`llm-queue jobs`, `cancel`, `dead` and `quarantine`, on a real queue."""

import json
import subprocess
import sys
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver.exceptions import BadRequestError, JobCancelled
from rustic_ai.llm_queue.tasks.job import JobState
from support.callers.llm import MakeLLM, ask
from support.callers.malformed import CANARY, malformed_messages
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer

SECRET = "the prompt nobody but the model may read"
NOWHERE = "3534e85c-dafc-4a24-b960-4320bc775124"


@pytest.mark.leaves_keys("elsewhere*", reason="the wake-up on a queue without a worker")
@pytest.mark.usefixtures("worker")
def test_what_waits_and_what_runs_is_listed_and_can_be_cancelled(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("q", Step(hold=True))
    running = llm().submit(ask(f"#q {SECRET}"))
    provider.wait_for_requests(1, "q")
    waiting = llm(queue="elsewhere").submit(ask(SECRET))

    listed = {one["id"]: one for one in json.loads(llm_queue("jobs", "--json").out)}
    assert {job_id: one["state"] for job_id, one in listed.items()} == {
        running.id: "running",
        waiting.id: "queued",
    }
    assert listed[running.id]["owner"] == {"org": "acme", "guild": "support", "agent": "helper"}
    (queued,) = json.loads(llm_queue("jobs", "--state", "queued", "--json").out)
    assert queued["id"] == waiting.id
    shown = llm_queue("jobs")
    assert running.id in shown.out
    assert SECRET not in shown.out + json.dumps(listed)

    ran = llm_queue("cancel", running.id, waiting.id, "--json")
    assert (ran.exit_code, json.loads(ran.out)) == (0, {running.id: "cancelling", waiting.id: "cancelled"})
    for handle in (running, waiting):
        with pytest.raises(JobCancelled):
            handle.result()
    provider.wait_for(lambda seen: not seen[0].open, "q")
    ran = llm_queue("cancel", running.id, NOWHERE)
    assert ran.exit_code == 1
    assert "had ended before" in ran.out
    assert "is not known" in ran.out
    assert json.loads(llm_queue("jobs", "--json").out) == []


@pytest.mark.leaves_keys("elsewhere*", reason="the wake-up on a queue without a worker")
def test_at_80_columns_every_name_is_whole(
    llm_queue: LlmQueue, llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "openrouter/meta-llama/llama-3.3-70b-instruct:free"
    waiting = llm("an-organisation", "a-guild-of-its-own", "helper", queue="elsewhere", model=model).submit(
        ask("Hi")
    )
    shown = llm_queue("jobs", width=80).out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"{waiting.id}  queued" in lines
    assert f"  model: {model}" in lines
    assert "  org/guild/agent: an-organisation/a-guild-of-its-own/helper" in lines
    assert any(one.startswith("  submitted: 20") for one in lines)
    assert waiting.cancel()


@pytest.mark.usefixtures("worker")
def test_a_dead_job_is_listed_shown_replayed_and_dropped(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(status=400, message="no such thing"), Step(status=400), Step(text="at last"))
    handle = llm().submit(ask(f"#q {SECRET}"))
    with pytest.raises(BadRequestError):
        handle.result()

    (listed,) = json.loads(llm_queue("dead", "list", "--json").out)
    assert (listed["id"], listed["state"], listed["why"]) == (handle.id, "failed", "bad_request (400)")
    table = llm_queue("dead", "list").out
    assert handle.id in table
    shown = llm_queue("dead", "show", handle.id)
    known = json.loads(shown.out)
    assert known["error"]["kind"] == "bad_request"
    assert [one["status"] for one in known["attempts"]] == ["failed"]
    assert SECRET not in json.dumps(listed) + table + shown.out

    assert llm_queue("dead", "replay", handle.id).exit_code == 0
    with pytest.raises(BadRequestError):
        handle.result()
    replayed = llm_queue("dead", "replay", "--all", "--json")
    assert (replayed.exit_code, json.loads(replayed.out)) == (0, {handle.id: True})
    assert handle.result().choices[0].message.content == "at last"
    assert json.loads(llm_queue("dead", "list", "--json").out) == []
    assert llm_queue("dead", "replay", handle.id).exit_code == 1, "an answered job is not dead"
    dropped = llm_queue("dead", "drop", handle.id, "--json")
    assert (dropped.exit_code, json.loads(dropped.out)) == (1, {handle.id: False})
    assert handle.status() is JobState.ANSWERED

    provider.plan("q2", Step(status=400))
    other = llm().submit(ask("#q2"))
    with pytest.raises(BadRequestError):
        other.result()
    assert llm_queue("dead", "drop", other.id).exit_code == 0
    with valkey.client() as client:
        assert client.exists(f"llmq:job:{other.id}", f"celery-task-meta-{other.id}") == 0
    assert json.loads(llm_queue("dead", "list", "--json").out) == []
    assert llm_queue("dead", "show", other.id).exit_code == 1


@pytest.mark.usefixtures("worker")
def test_quarantined_messages_are_listed_without_their_contents(
    llm_queue: LlmQueue, valkey: ValkeyServer
) -> None:
    messages = list(malformed_messages().values())
    with valkey.client() as client:
        for raw in messages:
            client.lpush("llm", raw)
        wait_until(lambda: client.llen("llmq:quarantine") == len(messages), 20, "all to be put aside")
    ran = llm_queue("quarantine", "list", "--limit", "1000", "--json")
    listed: list[dict[str, Any]] = json.loads(ran.out)
    assert len(listed) == len(messages)
    assert {set(one) == {"received_at_ms", "queue", "reason", "size", "sha256"} for one in listed} == {True}
    shown = llm_queue("quarantine", "list")
    assert shown.exit_code == 0
    assert CANARY not in ran.out + shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("cancel",),
        ("cancel", "no-uuid"),
        ("dead", "replay"),
        ("dead", "drop", NOWHERE, "--all"),
        ("dead", "show"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_told_apart(llm_queue: LlmQueue, arguments: tuple[str, ...]) -> None:
    assert llm_queue(*arguments).exit_code == 2


def test_no_redis_is_told_apart(llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "redis://127.0.0.1:1/0")
    for command in (("jobs",), ("cancel", NOWHERE), ("dead", "list"), ("quarantine", "list")):
        ran = llm_queue(*command)
        assert ran.exit_code == 4
        assert "LLM_QUEUE_REDIS_URL" in ran.err


def test_the_commands_do_without_litellm() -> None:
    code = (
        "import sys; from rustic_ai.llm_queue.worker.cli import main; "
        "print([name for name in ('litellm', 'rustic_ai.core') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
