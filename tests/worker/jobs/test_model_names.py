"""A limit or budget holds a model under each of its names: none of them is a way around it."""

import pytest

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetView
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.worker.cli.budget_books import model_names_for, spent_by_the_books
from rustic_ai.llm_queue.worker.provider.targets.model_names import model_names
from support.providers.provider import ProviderStub, Step
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


@pytest.mark.parametrize("pattern", ["gpt-4*", "openai/gpt-4*"])
@pytest.mark.parametrize("names", [("gpt-4o", "openai/gpt-4o"), ("openai/gpt-4o", "gpt-4o")])
async def test_a_limit_counts_both_names_of_a_model(
    make_kit: MakeKit, pattern: str, names: tuple[str, str]
) -> None:
    limit = {"name": "gpt4", "match": {"provider": "openai", "model": pattern}, "rpm": 1}
    kit = make_kit(limits=[limit])
    first, second = names
    assert isinstance(await kit.run(await kit.submit("one", model=first)), Answered)
    waiting = await kit.submit("two", model=second, timeout_ms=600_000)
    assert await kit.run(waiting) is None
    record = await kit.ledger.record(waiting.id)
    assert record is not None
    assert (record.state, (record.waits_for or "").partition(":")[0]) == (JobState.QUEUED, "gpt4")


async def test_a_429_closes_the_model_under_each_of_its_names(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    kit = make_kit()
    provider.plan("full", Step(status=429, retry_after_s=300))
    for model, tag in (("gpt-4o", "#full"), ("openai/gpt-4o", "#other")):
        assert await kit.run(await kit.submit(tag, model=model, timeout_ms=600_000)) is None
    assert len(provider.requests()) == 1, "the second waits, unsent"


@pytest.mark.parametrize(
    ("provider", "name", "given", "names"),
    [
        ("openai", "gpt-4o", "gpt-4o", ("openai/gpt-4o", "gpt-4o")),
        ("openai", "openai/gpt-4o", "fast", ("openai/gpt-4o", "fast", "gpt-4o")),
        (
            "together_ai",
            "together_ai/meta-llama/Llama-3",
            "together_ai/meta-llama/Llama-3",
            ("together_ai/meta-llama/Llama-3", "meta-llama/Llama-3"),
        ),
        ("openrouter", "openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o", ("openrouter/openai/gpt-4o",)),
    ],
)
def test_a_model_is_known_without_its_provider_unless_that_is_anothers(
    provider: str, name: str, given: str, names: tuple[str, ...]
) -> None:
    assert model_names(provider, name, given) == names


async def test_a_budget_by_models_is_counted_anew_as_it_was_spent(make_kit: MakeKit) -> None:
    row = {"name": "b", "tokens": 1_000_000, "period": "day", "per": ["model"]}
    kit = make_kit(budgets=[{**row, "match": {"model": "openai/gpt-4*"}}])
    for number, model in enumerate(("gpt-4o", "openai/gpt-4o", "openai/gpt-4o-mini")):
        answered = await kit.run(await kit.submit(str(number), model=model, params={"max_tokens": 50}))
        assert isinstance(answered, Answered)
    spent = {one.id: one.spent for one in await BudgetView(kit.redis).rows()}
    assert len(spent) == 2
    (rule,) = kit.settings.budgets
    key, names = kit.settings.key_ring().limit_key, model_names_for(rule, kit.settings)
    assert await spent_by_the_books(kit.redis, rule, key, names) == spent


def test_a_model_that_the_books_cannot_tell_is_refused(make_kit: MakeKit) -> None:
    kit = make_kit(budgets=[{"name": "b", "tokens": 9, "period": "day", "per": ["model"]}])
    (rule,) = kit.settings.budgets
    with pytest.raises(ValueError, match="the books do not tell whose model 'our-own' is"):
        model_names_for(rule, kit.settings)("our-own")
