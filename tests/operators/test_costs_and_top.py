"""`llm-queue costs` and `llm-queue top`, on what jobs really cost and how the queue really is."""

import json
from decimal import Decimal

import pytest

from support.callers.llm import MakeLLM, ask
from support.processes.command import LlmQueue
from support.providers.provider import ProviderStub, Step
from support.workers.worker import WorkerProcess

MODELS = ("openai/gpt-4o-mini", "openai/gpt-4.1-nano", "openai/our-own-finetune")


@pytest.mark.usefixtures("worker")
def test_the_books_say_what_the_responses_said(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("q", *(Step(prompt_tokens=17 + n, completion_tokens=31 * n + 1) for n in range(9)))
    told: dict[tuple[str, str], Decimal] = {}
    for number in range(9):
        org, model = ("acme", "globex")[number % 2], MODELS[number % 3]
        response = llm(org, f"guild {number}", "a").completion(ask("#q"), model=model)
        known = told.get((org, model), Decimal(0))
        told[org, model] = known + Decimal(repr(response.cost_usd or 0))
    ran = llm_queue("costs", "--json")
    assert ran.exit_code == 0
    books = json.loads(ran.out)
    assert {(row["org"], row["model"]): Decimal(row["cost_usd"]) for row in books["rows"]} == told
    assert Decimal(books["total"]["cost_usd"]) == sum(told.values())
    assert (books["total"]["jobs"], books["total"]["unpriced"]) == (9, 3)
    assert books["total"]["completion_tokens"] == sum(31 * n + 1 for n in range(9))
    by_guild = json.loads(llm_queue("costs", "--by", "guild,day", "--org", "acme", "--json").out)
    assert {row["guild"] for row in by_guild["rows"]} == {f"guild {n}" for n in range(0, 9, 2)}
    shown = llm_queue("costs", "--by", "model").out
    assert "our-own-finetune" in shown
    assert f"{sum(told.values(), Decimal(0)).normalize():f}" in shown


def test_what_cannot_be_asked_of_the_books(llm_queue: LlmQueue) -> None:
    for arguments in (
        ("--by", "colour"),
        ("--since", "tomorrow"),
        ("--since", "2026-02-01", "--until", "2026-01-01"),
    ):
        ran = llm_queue("costs", *arguments)
        assert ran.exit_code == 2
        assert "Error" in ran.err
    assert (
        json.loads(llm_queue("costs", "--since", "2020-01-01", "--until", "2020-01-02", "--json").out)["rows"]
        == []
    )


def test_top_shows_queue_worker_and_models(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub, worker: WorkerProcess
) -> None:
    provider.plan("hold", Step(hold=True))
    llm("acme", "support", "a").completion(ask("#done"))
    running = llm().submit(ask("#hold"), model=MODELS[1])
    provider.wait_for_requests(1, "hold")
    seen = json.loads(llm_queue("top", "--json").out)
    shown = llm_queue("top", "--once").out
    why = llm_queue("jobs", "--why", running.id).out
    provider.release("hold")
    running.result()
    assert seen["running"] == 1
    (one,) = seen["workers"]
    assert (one["name"], one["in_flight"], one["limit"]) == (worker.nodename, 1, 1000)
    models = {row["model"]: row for row in seen["models"]}
    assert models[MODELS[1]]["running"] == 1
    assert models[MODELS[0]]["usd_a_minute"] > 0
    assert worker.nodename in shown
    assert MODELS[1] in shown
    assert "running 1" in shown
    orgs = {row["org"]: row for row in seen["orgs"]}
    assert orgs["acme"]["share"] > 0
    assert orgs["acme"]["wait_p95_s"] < 10
    assert sum(row["running"] for row in orgs.values()) == 1
    assert {"organisation", "acme"} <= set(shown.split())
    assert ("acme", "support") in [(row["org"], row["guild"]) for row in seen["guilds"]]
    assert f"worker {worker.nodename} runs it" in why
    reason = json.loads(llm_queue("jobs", "--why", running.id, "--json").out)
    assert (reason["id"], reason["place"]) == (running.id, "ended")


def test_why_a_job_waits_where_nobody_knows_it(llm_queue: LlmQueue) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    ran = llm_queue("jobs", "--why", unknown)
    assert (ran.exit_code, f"job {unknown}: its record is gone" in ran.err) == (1, True)


@pytest.mark.usefixtures("worker")
def test_a_name_does_not_steer_the_terminal(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    llm("[red]acme[/]", "\x1b[2Jguild", "a").completion(ask("#q"))
    shown = llm_queue("costs", "--by", "org,guild").out
    assert "[red]acme[/]" in shown
    assert "\x1b[2J" not in shown
