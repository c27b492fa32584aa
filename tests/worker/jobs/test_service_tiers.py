"""Calls at a provider's service tiers: sent where the model has the tier, billed by it, and waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.outcome import Answered, Failed, Outcome
from rustic_ai.llm_queue.worker.attempts.full_tier import FullTier
from rustic_ai.llm_queue.worker.attempts.run_times import RunTimes
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.workers.moved_clock import MovedClock
from worker.jobs.conftest import MakeKit

if TYPE_CHECKING:
    from support.workers.job_kit import JobKit

pytestmark = pytest.mark.leaves_keys("llm", "llm?*", "llmq:*", reason="wake-ups that nobody takes")

#: 0.25 USD a million input tokens and 2 of output; at flex half of it, at priority 1.8 times as much.
MINI = "openai/gpt-5-mini"
O3 = "openai/o3"
NO_FLEX = "openai/gpt-4o"
ANSWER = Step(prompt_tokens=1_000, completion_tokens=1_000, times=None)
USD = {"default": 0.00225, "flex": 0.001125, "priority": 0.00405}
FULL = Step(status=429, code="resource_unavailable", message="Flex is out of room")


async def ask(kit: JobKit, tier: str | None, *, model: str = MINI, **fields: Any) -> Outcome | None:
    params = {} if tier is None else {"service_tier": tier}
    return await kit.run(await kit.submit("#q", model=model, params=params, **fields))


def asked_tiers(provider: ProviderStub) -> list[str | None]:
    return [request.body.get("service_tier") for request in provider.requests("q")]


def failure(outcome: Outcome | None) -> tuple[str, str]:
    assert isinstance(outcome, Failed), outcome
    return outcome.error.kind.value, outcome.error.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
async def test_a_tier_goes_to_the_provider_and_sets_the_price(
    make_kit: MakeKit, provider: ProviderStub, tier: str, stream: bool
) -> None:
    provider.plan("q", ANSWER)
    outcome = await ask(make_kit(), tier, stream=stream)
    assert isinstance(outcome, Answered)
    assert asked_tiers(provider) == [tier]
    assert outcome.account.cost_usd == pytest.approx(USD[tier])


async def test_the_tier_that_the_answer_names_is_the_one_that_is_paid(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", ANSWER.model_copy(update={"service_tier": "default"}))
    outcome = await ask(make_kit(), "priority")
    assert isinstance(outcome, Answered)
    assert outcome.account.cost_usd == pytest.approx(USD["default"])


@pytest.mark.parametrize(
    ("model", "tier", "says"),
    [
        (NO_FLEX, "flex", "service_tier: 'openai/gpt-4o' has no tier 'flex' (it has priority); leave"),
        ("anthropic/claude-sonnet-4-5", "priority", "has no tier 'priority' (it has one tier alone); leave"),
        ("openai/a-model-of-our-own", "flex", "has no tier 'flex'"),
        (MINI, "turbo", "service_tier: 'turbo' is none of auto, default, flex, priority"),
    ],
)
async def test_a_tier_that_a_model_has_not_is_refused_before_a_call(
    make_kit: MakeKit, provider: ProviderStub, model: str, tier: str, says: str
) -> None:
    kind, message = failure(await ask(make_kit(), tier, model=model))
    assert kind == "bad_request"
    assert says in message
    assert not provider.requests()


async def test_a_fallback_without_the_tier_is_refused_before_a_call(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    _, message = failure(await ask(make_kit(), "flex", fallback_models=(NO_FLEX,)))
    assert "'openai/gpt-4o' has no tier 'flex'" in message
    assert not provider.requests()


async def test_where_there_is_one_tier_alone_the_usual_words_are_not_sent(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    kit = make_kit()
    for tier in ("auto", "default", None):
        assert isinstance(await ask(kit, tier, model="openai/a-model-of-our-own"), Answered)
    assert asked_tiers(provider) == [None, None, None]


async def test_a_budget_holds_what_the_tier_may_cost(make_kit: MakeKit, provider: ProviderStub) -> None:
    kit = make_kit(budgets=[{"name": "acme", "usd": 1.0, "period": "day"}])
    held: dict[str, int] = {}
    for tier in ("flex", "default", "auto", "priority"):
        provider.plan(tier, Step(hold=True))
        job = await kit.submit(f"#{tier}", model=MINI, params={"service_tier": tier, "max_tokens": 1_000})
        _, task = kit.start(job)
        await async_wait_until(lambda: provider.open_calls, 10)
        (key,) = [key async for key in kit.redis.scan_iter("llmq:budget:*")]
        held[tier] = int(await kit.redis.hget(key, "held") or 0)
        provider.release()
        assert isinstance(await task, Answered)
    assert held["flex"] == pytest.approx(held["default"] / 2, rel=0.01)
    assert held["priority"] == pytest.approx(held["default"] * 1.8, rel=0.01)
    assert held["auto"] == held["priority"], "whose choice is the provider's"


async def test_a_full_flex_tier_is_waited_for_in_no_worker_until_the_deadline_is_near(
    make_kit: MakeKit, provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.plan("q", *[FULL] * 3, ANSWER)
    kit = make_kit()
    clock = await MovedClock.in_place_of_time(kit.redis, monkeypatch)
    # No retry is left for a failure that counts.
    job = await kit.submit("#q", model=MINI, params={"service_tier": "flex"}, max_retries=0)
    for due_s in (1.5, 2.5, 45.0):
        assert await kit.run(job) is None, "it is back with the ledger"
        assert await kit.state(job) is JobState.QUEUED
        await clock.move(due_s)
        await kit.ledger.limits.tick()
    outcome = await kit.run(job)
    assert isinstance(outcome, Answered)
    assert asked_tiers(provider) == ["flex", "flex", "flex", "default"]
    assert outcome.account.cost_usd == pytest.approx(USD["default"])
    pauses = [one.backoff_s or 0 for one in outcome.account.attempts[:3]]
    assert [round(pause) for pause in pauses] == [1, 2, 4]
    assert [one.full_tier for one in outcome.account.attempts] == ["flex", "flex", "flex", None]


async def test_a_full_flex_tier_closes_nothing_to_other_calls(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("full", FULL)
    provider.plan("q", ANSWER)
    kit = make_kit()
    full = await kit.submit("#full", model=MINI, params={"service_tier": "flex"})
    assert await kit.run(full) is None
    assert isinstance(await ask(kit, "default"), Answered)
    assert isinstance(await ask(kit, "flex"), Answered)
    assert not await kit.redis.zcard("llmq:closed")


@pytest.mark.parametrize(("when_limited", "models"), [("fail", [MINI]), ("fall_back", [MINI, O3])])
async def test_a_call_that_may_not_wait_does_not_wait_for_its_tier(
    make_kit: MakeKit, provider: ProviderStub, when_limited: Any, models: list[str]
) -> None:
    provider.plan("q", FULL)
    fallbacks = tuple(models[1:] or ())
    outcome = await ask(make_kit(), "flex", when_limited=when_limited, fallback_models=fallbacks)
    assert [f"openai/{request.model}" for request in provider.requests("q")] == models
    if when_limited == "fail":
        assert failure(outcome)[0] == "rate_limit"
    else:
        assert isinstance(outcome, Answered)


async def test_a_call_waits_no_longer_for_its_tier_than_max_wait_allows(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", FULL, ANSWER)
    assert isinstance(await ask(make_kit(), "flex", max_wait_s=0.0), Answered)
    assert asked_tiers(provider) == ["flex", "default"]


def test_what_calls_commonly_take_is_kept_for_the_default_tier() -> None:
    times = RunTimes()
    waits = FullTier(times, timeout_s=600.0, max_wait_s=None)
    full = AttemptRecord(number=1, epoch=1, model=MINI, status="failed", full_tier="flex")
    assert waits.is_over([full], MINI, remaining_s=59.0)
    assert not waits.is_over([full], MINI, remaining_s=61.0)
    for seconds in [2.0] * 20:
        times.learn(MINI, seconds)
    assert not waits.is_over([full], MINI, remaining_s=4.0)
    assert waits.is_over([full], MINI, remaining_s=2.9)
    assert not waits.is_over([], MINI, remaining_s=0.1), "nothing was full"
