"""Budgets on real workers: never overspent, used to the end, and nothing of a dead worker stays held."""

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from faults.checker import assert_promises
from faults.scene import Scene
from faults.shows import budget_midnight
from rustic_ai.llm_queue.resolver import BudgetExceeded, JobHandle
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView
from support.callers.llm import ask
from support.providers.provider import Step

pytestmark = pytest.mark.timeout(150)

#: A call of it that brings a thousand tokens costs a cent, and may cost a little more for its prompt.
MODEL = "openai/gpt-4o"
CENT = Step(prompt_tokens=0, completion_tokens=1_000, delay_s=0.05, times=None)
THIRD = Step(prompt_tokens=0, completion_tokens=300, delay_s=0.05, times=None)


def budget(usd: float, **fields: Any) -> dict[str, str]:
    row = {"name": "acme", "match": {"org": "acme"}, "usd": usd, "period": "total", **fields}
    return {"BUDGETS": json.dumps([row])}


def rows(scene: Scene) -> list[BudgetRow]:
    async def read() -> list[BudgetRow]:
        redis: Redis = Redis.from_url(scene.server.url, decode_responses=True)
        try:
            return await BudgetView(redis).rows()
        finally:
            await redis.aclose()

    return asyncio.run(read())


def submitted(scene: Scene, count: int, tag: str, **properties: Any) -> list[JobHandle]:
    llm = scene.callers.llm(model=MODEL, max_tokens=1_000, **properties)
    return [llm.submit(ask(f"#{tag}")) for _ in range(count)]


def test_of_many_calls_at_once_so_many_are_made_as_there_is_money(scene: Scene) -> None:
    """A hundred dollars' cents are the same with a dollar: twenty of sixty calls, by two workers."""
    scene.provider.plan("q", CENT)
    for _ in range(2):
        scene.start_worker(budget(0.2051), wait=False)
    handles = submitted(scene, 60, "q")
    endings: list[BudgetExceeded | float] = []
    for handle in handles:
        try:
            endings.append(handle.result(90).cost_usd or 0.0)
        except BudgetExceeded as error:
            endings.append(error)
    refused = [one for one in endings if isinstance(one, BudgetExceeded)]
    assert len(scene.provider.requests("q")) == 20
    assert len(refused) == 40
    assert refused[0].budget is not None
    assert (refused[0].budget.name, refused[0].permanent) == ("acme", False)
    (row,) = rows(scene)
    assert (round(row.spent, 9), row.held, row.calls) == (0.2, 0, 20)


def test_money_that_calls_did_not_take_is_used_by_others(scene: Scene) -> None:
    scene.provider.plan("q", THIRD)
    scene.start_worker(budget(0.1))
    handles = submitted(scene, 40, "q")
    made = 0
    for handle in handles:
        try:
            made += bool(handle.result(90))
        except BudgetExceeded:
            continue
    # Thirty cost 0.09; the last cent is too little for what a call may cost.
    assert made == 30
    (row,) = rows(scene)
    assert (round(row.spent, 9), row.held) == (0.09, 0)


def test_a_dead_workers_calls_are_spent_as_doubtful_and_hold_nothing(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=5), CENT, model="gpt-4o")
    dying = scene.start_worker(budget(10.0))
    calls = scene.callers.ask(5, "q", model=MODEL, max_tokens=1_000)
    scene.wait_running(5)
    (row,) = rows(scene)
    assert 0.05 < row.held < 0.06
    scene.start_worker(budget(10.0))
    scene.kill(dying)
    assert assert_promises(scene.history()).answered == len(calls)
    (row,) = rows(scene)
    assert row.held == 0
    assert 0.05 < row.doubtful < 0.06
    assert row.spent == pytest.approx(row.doubtful + 0.05)


def test_calls_that_wait_over_midnight_are_each_in_one_day() -> None:
    """Of thirty cents' worth of calls five are made today, five tomorrow, and the rest waits on."""
    today, tomorrow = budget_midnight.show(jobs=30, workers=2, usd=0.05, after_s=20)
    assert today.ends_at is not None
    assert tomorrow.ends_at == today.ends_at + 86_400
