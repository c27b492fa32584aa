"""Flower as an operator uses it: a real server process, asked over HTTP."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from rustic_ai.llm_queue.resolver.exceptions import JobCancelled, QueueError
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.keys import FOLLOWERS_PREFIX
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.flower import FlowerProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

METHOD_NOT_ALLOWED = 405
CANARY = "canary-3b1f"
Task = dict[str, Any]


@pytest.fixture(scope="module")
def flower(
    valkey: ValkeyServer, worker: WorkerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowerProcess]:
    log = tmp_path_factory.mktemp("flower") / "flower.log"
    with FlowerProcess({"LLM_QUEUE_REDIS_URL": valkey.url}, log_path=log) as process:
        wait_until(lambda: process.get("/api/workers").json(), 20, "Flower to see the worker")
        yield process


@pytest.fixture
def task(flower: FlowerProcess) -> Callable[..., Task]:
    """A function that waits for Flower to have a job with these fields; returns what its API says."""

    def find(job_id: str, state: str, **fields: Any) -> Task:
        def seen() -> Task:
            reply = flower.get(f"/api/task/info/{job_id}")
            shown: Task = reply.json() if reply.status_code == 200 else {}
            return shown if {"state": state, **fields}.items() <= shown.items() else {}

        return wait_until(seen, 15, f"Flower to show {job_id} as {state}")

    return find


def _row(flower: FlowerProcess, job_id: str) -> dict[str, Any]:
    form = {
        "draw": 1,
        "start": 0,
        "length": 100,
        "search[value]": "",
        "order[0][column]": 0,
        "order[0][dir]": "desc",
        "columns[0][data]": "received",
    }
    rows = flower.post("/tasks/datatable", data=form).json()["data"]
    (row,) = (row for row in rows if row["uuid"] == job_id)
    assert isinstance(row, dict)
    return row


def test_jobs_that_follow_an_equal_call_end_with_it(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer, task: Callable[..., Task]
) -> None:
    def followers() -> int:
        with valkey.client() as redis:
            return sum(redis.zcard(key) for key in redis.scan_iter(f"{FOLLOWERS_PREFIX}*"))

    provider.plan("q", Step(text="one for all", hold=True))
    agent = llm(single_flight=True)
    leader = agent.submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    follower, cancelled = agent.submit(ask("#q")), agent.submit(ask("#q"))
    wait_until(lambda: followers() == 2, 15, "the others to follow")
    task(cancelled.id, "STARTED")
    cancelled.cancel()
    provider.release("q")
    assert leader.result(timeout_s=20).cached is None
    assert follower.result(timeout_s=20).cached == "flight"
    task(follower.id, "SUCCESS", outcome="answered", cached="flight", attempts=0, cost_usd=0.0)
    task(cancelled.id, "REVOKED", outcome="cancelled")


def test_a_job_shows_its_owner_its_waits_its_attempts_and_its_cost(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, task: Callable[..., Task]
) -> None:
    provider.plan("q", Step(status=500), Step(text="fine", prompt_tokens=1000, completion_tokens=100))
    handle = llm().submit(ask("a prompt of some forty characters. #q"))
    response = handle.result()
    seen = task(handle.id, "SUCCESS")
    assert {name: seen[name] for name in ("model", "org", "guild", "agent")} == {
        "model": "openai/gpt-4o-mini",
        "org": "acme",
        "guild": "support",
        "agent": "helper",
    }
    assert 5 <= seen["estimated_tokens"] <= 50
    assert seen["attempts"] == 2
    assert seen["cost_usd"] == response.cost_usd
    assert seen["prompt_tokens"] == 1000
    assert seen["queue_wait_s"] == pytest.approx(response.queue_wait_s, abs=0.002)
    assert seen["run_time_s"] == pytest.approx(response.run_time_s, abs=0.002)

    row = _row(flower, handle.id)
    assert row["state"] == "SUCCESS"
    assert row["model"] == "openai/gpt-4o-mini"
    assert row["cost"] == f"${response.cost_usd:.6f}"
    assert re.fullmatch(r"[\d.]+\sm?s", row["run_time"])
    page = flower.get(f"/task/{handle.id}").text
    for shown in ("openai/gpt-4o-mini", "support", "helper", row["cost"], row["queue_wait"], row["run_time"]):
        assert shown in page


def test_a_failed_job_shows_why_and_how_often_it_was_tried(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, task: Callable[..., Task]
) -> None:
    provider.plan("q", provider.bad_key("openai"))
    handle = llm().submit(ask("#q"))
    with pytest.raises(QueueError):
        handle.result()
    seen = task(handle.id, "FAILURE")
    assert seen["outcome"] == "failed"
    assert seen["exception"] == "JobFailed('authentication')"
    assert seen["attempts"] == 1
    assert seen["traceback"] is None
    assert "authentication" in flower.get(f"/task/{handle.id}").text


def test_a_job_that_waits_for_a_limit_is_pending_and_shows_which(
    llm: MakeLLM,
    provider: ProviderStub,
    flower: FlowerProcess,
    task: Callable[..., Task],
    valkey: ValkeyServer,
) -> None:
    provider.plan("q", Step(status=429, retry_after_s=300), Step(text="fine"))
    handle = llm().submit(ask("#q"))
    task(handle.id, "PENDING", limited="waits for ~key_and_model")
    assert _row(flower, handle.id)["limited"] == "waits for ~key_and_model"
    asyncio.run(_open(valkey.url, "~key_and_model"))
    response = handle.result()
    seen = task(handle.id, "SUCCESS")
    assert seen["limited"] == f"~key_and_model {response.limited_s:.1f} s"


async def _open(redis_url: str, limit: str) -> None:
    async with connect(redis_url, outage_s=5) as redis:
        await Ledger(redis, result_ttl=timedelta(minutes=5)).limits.resume_limit(limit)


def test_terminate_closes_the_providers_connection(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, task: Callable[..., Task]
) -> None:
    provider.plan("q", Step(hold=True))
    handle = llm().submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    running = task(handle.id, "STARTED")
    assert running["guild"] == "support"
    assert 'id="task-terminate"' in flower.get(f"/task/{handle.id}").text
    # What the button sends.
    reply = flower.post(f"/api/task/revoke/{handle.id}", data={"terminate": "true"})
    assert reply.status_code == 200
    (request,) = provider.wait_for(lambda seen: not seen[0].open, "q")
    assert request.client_closed
    with pytest.raises(JobCancelled):
        handle.result()
    ended = task(handle.id, "REVOKED", attempts=1)
    assert ended["outcome"] == "cancelled"


def test_the_worker_page_shows_the_pools_own_figures(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, worker: WorkerProcess
) -> None:
    provider.plan("q", Step(hold=True, times=None))
    handles = [llm().submit(ask("#q")) for _ in range(3)]
    provider.wait_for_requests(3, "q")

    def figures() -> dict[str, str]:
        page = flower.get(f"/worker/{worker.nodename}").text
        found = dict(re.findall(r"<td>([^<]+)</td>\s*<td>([^<]*)</td>", page))
        return found if found.get("Calls in flight") == "3" else {}

    shown = wait_until(figures, 15, "3 calls in flight on the worker's page")
    assert shown["Limit of calls in flight"] == "1,000"
    assert re.fullmatch(r"[\d.]+\sm?s", shown["Event loop lag"])
    assert 50 < int(shown["Memory"].removesuffix(" MiB").replace(",", "")) < 2_000
    stats = flower.get("/api/workers", params={"refresh": "1", "workername": worker.nodename}).json()
    pool = stats[worker.nodename]["stats"]["pool"]
    assert {"in-flight": 3, "max-concurrency": 1000}.items() <= pool.items()
    for handle in handles:
        handle.cancel()


def test_the_limit_of_calls_is_changed_from_the_page_and_no_button_harms_the_worker(
    flower: FlowerProcess, worker: WorkerProcess, provider: ProviderStub, llm: MakeLLM
) -> None:
    provider.plan("q", Step(text="still here"))

    def limit() -> int:
        stats = flower.get("/api/workers", params={"refresh": "1", "workername": worker.nodename}).json()
        return int(stats[worker.nodename]["stats"]["pool"]["max-concurrency"])

    before = limit()
    for name, change in (("grow", 5), ("shrink", 0)):
        reply = flower.post(f"/api/worker/pool/{name}/{worker.nodename}", data={"n": "5"})
        assert reply.status_code == 200, reply.text
        assert limit() == before + change
    assert flower.post(f"/api/worker/pool/restart/{worker.nodename}").status_code == 403
    autoscale = {"min": "1", "max": "2"}
    assert flower.post(f"/api/worker/pool/autoscale/{worker.nodename}", data=autoscale).status_code == 403
    assert limit() == before
    assert llm().completion(ask("#q")).choices[0].message.content == "still here"


def test_queue_lengths_are_the_ledgers(flower: FlowerProcess) -> None:
    lengths = flower.get("/api/queues/length").json()["active_queues"]
    # Workers of other tests listen to further queues of the same server.
    assert {"name": "llm", "messages": 0} in lengths
    page = flower.get("/broker")
    assert page.status_code == 200
    assert "Waiting jobs" in page.text


def test_no_prompt_answer_or_key_is_anywhere(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, task: Callable[..., Task]
) -> None:
    provider.plan("q", Step(text=f"the answer {CANARY}"))
    handle = llm(extra_headers={"X-Note": f"header-{CANARY}"}).submit(ask(f"the prompt {CANARY} #q"))
    assert CANARY in str(handle.result().choices[0].message.content)
    task(handle.id, "SUCCESS")
    shown = [flower.get(path).text for path in flower.readable_paths(handle.id)]
    shown += [json.dumps(_row(flower, handle.id)), flower.logs()]
    assert not [text for text in shown if CANARY in text]
    refused = flower.get(f"/api/task/result/{handle.id}")
    assert refused.status_code == 403


@pytest.mark.parametrize("name", ["apply", "async-apply", "send-task"])
def test_no_task_is_started_past_the_ledger(flower: FlowerProcess, name: str) -> None:
    reply = flower.post(f"/api/task/{name}/rustic_ai.llm_queue.run_job", json={"args": ["x"]})
    assert reply.status_code == 403


def test_nothing_but_the_health_check_answers_without_the_password(flower: FlowerProcess) -> None:
    job_id = "7d1f3c8e-0000-4000-8000-000000000000"
    for auth in (None, ("operator", "wrong-password-of-length")):
        with httpx.Client(base_url=flower.url, auth=auth, timeout=10) as stranger:
            for path in flower.readable_paths(job_id):
                assert stranger.get(path).status_code in (401, METHOD_NOT_ALLOWED), path
            for path in flower.writable_paths(job_id):
                assert stranger.post(path).status_code in (401, METHOD_NOT_ALLOWED), path
            assert stranger.get("/healthcheck").status_code == 200


def test_another_sites_page_cannot_press_the_buttons(flower: FlowerProcess) -> None:
    path = "/api/task/revoke/7d1f3c8e-0000-4000-8000-000000000000"
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert flower.post(path, headers=headers).status_code == 403


def test_a_hostile_model_name_is_text_on_the_page(
    llm: MakeLLM, provider: ProviderStub, flower: FlowerProcess, task: Callable[..., Task]
) -> None:
    handle = llm(model="openai/<script>alert(1)</script>").submit(ask("#q"))
    with pytest.raises(QueueError):
        handle.result()
    task(handle.id, "FAILURE")
    assert "<script>alert" not in flower.get(f"/task/{handle.id}").text
