"""One line a job: what an operator finds in a worker's log, and what is never in it."""

import json
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver.exceptions import AuthenticationError, JobCancelled, JobTimeout
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.metrics import Scrape
from support.workers.worker import WorkerProcess

MINI = "openai/gpt-4o-mini"


def job_lines(worker: WorkerProcess, job_id: str) -> list[dict[str, Any]]:
    """The log's lines about a job, once there is one that says how it ended."""

    def ended() -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in worker.logs().splitlines() if line.startswith("{")]
        lines = [entry for entry in entries if job_id in json.dumps(entry)]
        return lines if any("job" in line for line in lines) else []

    return wait_until(ended, 10, "the job's line")


def test_an_answered_job_is_one_line_with_all_that_operators_ask_for(
    worker: WorkerProcess, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan(
        "q", Step(status=500), Step(text="canary answer", prompt_tokens=1000, completion_tokens=500)
    )
    response = llm().completion(ask("canary prompt #q"))
    assert response.job_id is not None
    (line,) = job_lines(worker, response.job_id)
    assert line["level"] == "INFO"
    assert line["time"].endswith("+00:00")
    facts = line["job"]
    assert facts.pop("run_time_s") > 0
    assert facts.pop("queue_wait_s") >= 0
    assert facts == {
        "id": response.job_id,
        "org": "acme",
        "guild": "support",
        "agent": "helper",
        "kind": "chat",
        "model": "openai/gpt-4o-mini",
        "outcome": "answered",
        "error": None,
        "attempts": 2,
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "cost_usd": response.cost_usd,
        "cached": None,
        "cached_texts": 0,
    }
    assert facts["cost_usd"] == pytest.approx(0.00045)
    assert "canary" not in worker.logs()


def test_every_other_ending_is_a_line_too(
    worker: WorkerProcess, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("key", provider.bad_key("openai"))
    provider.plan("hold", Step(hold=True, times=None))
    with pytest.raises(AuthenticationError) as failed:
        llm().completion(ask("#key"))
    with pytest.raises(JobTimeout) as late:
        llm(timeout=1).completion(ask("#hold"))
    handle = llm().submit(ask("#hold cancelled"))
    provider.wait_for_requests(2, "hold")
    handle.cancel()
    with pytest.raises(JobCancelled):
        handle.result()
    for job_id, outcome, error in (
        (failed.value.job_id, "failed", "authentication"),
        (late.value.job_id, "expired", None),
        (handle.id, "cancelled", None),
    ):
        (line,) = job_lines(worker, str(job_id))
        assert line["job"]["outcome"] == outcome
        assert line["job"]["error"] == error
        assert line["job"]["model"] == "openai/gpt-4o-mini"


@pytest.mark.leaves_keys("elsewhere*", reason="the wake-ups on a queue without a worker")
def test_a_job_that_ends_while_it_waits_is_a_line_and_a_count(
    worker: WorkerProcess, metrics_port: int, llm: MakeLLM
) -> None:
    def ended(outcome: str) -> float:
        return Scrape.of(metrics_port).value("llm_queue_jobs_total", outcome=outcome, model=MINI)

    before = {outcome: ended(outcome) for outcome in ("cancelled", "expired")}
    withdrawn = llm("acme", "support", "helper", queue="elsewhere").submit(ask("canary prompt"))
    late = llm("acme", "support", "helper", queue="elsewhere", timeout=1).submit(ask("canary prompt"))
    assert withdrawn.cancel()
    with pytest.raises(JobTimeout) as given_up:
        llm("acme", "support", "helper", queue="elsewhere", timeout=1).completion(ask("canary prompt"))
    ended_as = ((withdrawn.id, "cancelled"), (str(given_up.value.job_id), "expired"), (late.id, "expired"))
    for job_id, outcome in ended_as:
        (facts,) = [line["job"] for line in job_lines(worker, job_id) if "job" in line]
        assert (facts["outcome"], facts["guild"], facts["model"]) == (outcome, "support", MINI)
        assert (facts["attempts"], facts["run_time_s"]) == (0, 0)
        assert facts["queue_wait_s"] >= (0.9 if outcome == "expired" else 0)
    wait_until(lambda: ended("cancelled") > before["cancelled"], 5, "the count")
    wait_until(lambda: ended("expired") > before["expired"] + 1, 5, "both counts")
    # Whoever told twice would have by now: the later jobs took a round of the reaper more.
    assert {outcome: ended(outcome) - before[outcome] for outcome in before} == {"cancelled": 1, "expired": 2}
    assert "canary" not in worker.logs()


def test_a_key_that_poses_as_a_name_is_taken_out(
    worker: WorkerProcess, llm: MakeLLM, provider: ProviderStub
) -> None:
    key = "sk-proj-" + "x" * 40
    response = llm("acme", key, "helper").completion(ask("#q"))
    (line,) = job_lines(worker, str(response.job_id))
    assert line["job"]["guild"] == "[removed]"
    assert key not in worker.logs()


def test_an_owner_cannot_forge_a_line(worker: WorkerProcess, llm: MakeLLM, provider: ProviderStub) -> None:
    forged = 'helper\n{"time": "now", "job": {"id": "forged"}}'
    response = llm("acme", "support", forged).completion(ask("#q"))
    (line,) = job_lines(worker, str(response.job_id))
    assert line["job"]["agent"] == forged
    assert not [one for one in worker.logs().splitlines() if one.startswith('{"time": "now"')]
