"""Jobs under budgets, on a worker's parts and a real provider: what is called, refused, and spent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.outcome import Answered, Failed
from support.providers.provider import ProviderStub, Step
from support.workers.engine_kit import OWNER

if TYPE_CHECKING:
    from support.workers.job_kit import JobKit

pytestmark = pytest.mark.leaves_keys("llm", "llm?*", reason="wake-ups that nobody takes")

MakeKit = Callable[..., "JobKit"]

#: 10 USD a million output tokens, 2.50 a million input tokens.
GPT_4O_OUTPUT = 1_000
ANSWER = Step(prompt_tokens=4, completion_tokens=GPT_4O_OUTPUT, times=None)
COST_USD = 0.01001
MINI = "openai/gpt-4o-mini"


def budgets(usd: float, **fields: Any) -> dict[str, Any]:
    return {"budgets": [{"name": "acme", "usd": usd, "period": "day", **fields}]}


async def ask(kit: JobKit, prompt: str = "#q", **fields: Any) -> Answered | Failed:
    job = await kit.submit(prompt, params={"max_tokens": GPT_4O_OUTPUT}, **fields)
    outcome = await kit.run(job)
    assert isinstance(outcome, Answered | Failed), outcome
    return outcome


async def spent(kit: JobKit) -> tuple[int, int]:
    """Nanodollars spent and held, of all budgets together."""
    sums = [0, 0]
    async for key in kit.redis.scan_iter("llmq:budget:*"):
        for at, value in enumerate(await kit.redis.hmget(key, "spent", "held")):
            sums[at] += int(value or 0)
    return sums[0], sums[1]


async def test_what_a_call_cost_is_spent_and_its_response_says_what_is_left(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(**budgets(1.0))
    outcome = await ask(kit)
    assert isinstance(outcome, Answered)
    assert outcome.account.cost_usd == pytest.approx(COST_USD)
    assert await spent(kit) == (round(COST_USD * 1e9), 0)
    state = outcome.account.budget
    assert state is not None
    assert (state.name, state.unit, state.spent, state.limit) == ("acme", "usd", 0, 1.0)
    assert COST_USD <= state.held < COST_USD * 1.1
    assert state.resets_at is not None


async def test_no_budget_is_overspent(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(**budgets(0.05, on_exceeded="refuse"))
    outcomes = [await ask(kit) for _ in range(8)]
    errors = [one.error for one in outcomes if isinstance(one, Failed)]
    assert len(provider.requests("q")) == 4, "a fifth may cost more than is left"
    assert {error.kind.value for error in errors} == {"budget_exceeded"}
    assert "has no room for a call that may take 0.010" in errors[0].message
    assert errors[0].budget is not None
    assert not errors[0].budget.permanent
    assert await spent(kit) == (round(4 * COST_USD * 1e9), 0)


async def test_calls_wait_for_others_to_cost_less_than_they_might(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", Step(prompt_tokens=4, completion_tokens=100, times=None))
    kit = make_kit(**budgets(0.0205))
    held = Step(prompt_tokens=4, completion_tokens=100, hold=True)
    provider.plan("held", held, held)
    jobs = [await kit.submit("#held", params={"max_tokens": GPT_4O_OUTPUT}) for _ in range(2)]
    under_way = [kit.start(job)[1] for job in jobs]
    await asyncio.to_thread(provider.wait_for_requests, 2, "held")
    waiting = await kit.submit("#q", params={"max_tokens": GPT_4O_OUTPUT})
    assert await kit.run(waiting) is None, "it is back with the ledger"
    assert not provider.requests("q")
    record = await kit.ledger.record(waiting.id)
    assert record is not None
    assert record.limit_name == "acme"
    await asyncio.to_thread(provider.release, "held")
    await asyncio.gather(*under_way)
    assert isinstance(await kit.run(waiting), Answered)
    assert await spent(kit) == (3 * 1_010_000, 0)


async def test_another_model_steps_in(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    fallbacks = {"on_exceeded": "degrade", "budget_fallbacks": {"*gpt-4o": MINI}}
    kit = make_kit(**budgets(0.012, **fallbacks))
    outcomes = [await ask(kit) for _ in range(3)]
    models = [one.model for one in outcomes if isinstance(one, Answered)]
    assert models == ["openai/gpt-4o", MINI, MINI]
    assert [one.body["model"] for one in provider.requests("q")] == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]


async def test_a_call_above_the_whole_budget_never_waits(make_kit: MakeKit, provider: ProviderStub) -> None:
    outcome = await ask(make_kit(**budgets(0.009)))
    assert isinstance(outcome, Failed)
    assert outcome.error.budget is not None
    assert outcome.error.budget.permanent
    assert "more than the whole budget" in outcome.error.message
    assert not provider.requests()


async def test_each_guild_has_its_own(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(**budgets(0.012, per=["guild"], on_exceeded="refuse"))
    other = OWNER.model_copy(update={"guild": "other"})
    kinds = [(await ask(kit, owner=owner)).kind for owner in (OWNER, OWNER, other)]
    assert kinds == ["answered", "failed", "answered"]


async def test_a_run_has_its_own_and_calls_of_no_run_have_none(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(budgets=[{"name": "run", "usd": 0.012, "period": "run", "on_exceeded": "refuse"}])
    runs = ("one", "one", "two", None, None)
    kinds = [(await ask(kit, budget_run=run)).kind for run in runs]
    assert kinds == ["answered", "failed", "answered", "answered", "answered"]


async def test_a_call_may_bring_its_own_limit(kit: JobKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    assert isinstance(await ask(kit, max_cost_usd=0.011), Answered)
    outcome = await ask(kit, max_cost_usd=0.009)
    assert isinstance(outcome, Failed)
    assert "max_cost_usd: the call may cost 0.010" in outcome.error.message
    assert len(provider.requests("q")) == 1


async def test_tokens_may_be_the_money(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(budgets=[{"name": "t", "tokens": 2_200, "period": "total", "on_exceeded": "refuse"}])
    kinds = [(await ask(kit)).kind for _ in range(3)]
    assert kinds == ["answered", "answered", "failed"]
    assert await spent(kit) == (2 * (4 + GPT_4O_OUTPUT), 0)


async def test_a_model_without_a_price_is_refused_unless_the_policy_allows_it(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", ANSWER)
    strict, lenient = make_kit(**budgets(1.0)), make_kit(**budgets(1.0, unpriced="allow"))
    outcome = await ask(strict, model="openai/own-model")
    assert isinstance(outcome, Failed)
    assert "the model has no price" in outcome.error.message
    assert isinstance(await ask(lenient, model="openai/own-model"), Answered)


async def test_tokens_of_a_model_without_a_price_may_be_given_one(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", ANSWER)
    usd_a_token = 0.000_002_5
    of_one_call = math.ceil((4 + GPT_4O_OUTPUT) * usd_a_token * 1e9)
    # Enough for two calls and what the second's prompt might have more than was reckoned, not for three.
    kit = make_kit(**budgets(2.2 * of_one_call / 1e9, unpriced=usd_a_token, on_exceeded="refuse"))
    outcomes = [await ask(kit, model="openai/own-model") for _ in range(3)]
    assert [one.kind for one in outcomes] == ["answered", "answered", "failed"]
    assert await spent(kit) == (2 * of_one_call, 0)
    assert outcomes[0].account.cost_usd is None, "the books know of no price"


async def test_a_model_with_a_price_keeps_it(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(**budgets(1.0, unpriced=0.01))
    assert isinstance(await ask(kit), Answered)
    assert await spent(kit) == (round(COST_USD * 1e9), 0)


@pytest.mark.parametrize(("model", "cost_usd"), [("openai/gpt-4o", COST_USD), ("openai/own-model", 1.004)])
async def test_a_call_that_was_refused_costs_nothing_though_its_tokens_have_a_price(
    make_kit: MakeKit, provider: ProviderStub, model: str, cost_usd: float
) -> None:
    provider.plan("q", Step(status=500), Step(status=503), ANSWER)
    kit = make_kit(**budgets(5.0, unpriced=0.001))
    assert isinstance(await ask(kit, model=model, estimated_tokens=1_000), Answered)
    assert await spent(kit) == (round(cost_usd * 1e9), 0)


async def test_a_tenants_own_money_is_not_counted(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", ANSWER)
    kit = make_kit(**budgets(0.009))
    endpoint = Endpoint.model_validate({"api_key": "sk-tenant", "base_url": provider.base_url("openai")})
    assert isinstance(await ask(kit, endpoint=endpoint), Answered)
    assert await spent(kit) == (0, 0)


async def test_a_failed_call_gives_its_hold_back(make_kit: MakeKit, provider: ProviderStub) -> None:
    provider.plan("q", Step(status=400, message="no"))
    kit = make_kit(**budgets(1.0))
    assert isinstance(await ask(kit), Failed)
    assert await spent(kit) == (0, 0)
