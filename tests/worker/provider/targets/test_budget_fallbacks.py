"""A worker says at its start which of `budget_fallbacks` will not help."""

from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.provider import Provider
from rustic_ai.llm_queue.worker.settings import WorkerSettings


def start(budget: dict[str, Any], **settings: Any) -> None:
    row = {"name": "acme", "usd": 5.0, **budget}
    Provider(WorkerSettings(budgets=[row], **settings), {})


def degrading(**fallbacks: str) -> dict[str, Any]:
    return {"on_exceeded": "degrade", "budget_fallbacks": fallbacks}


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4o"])
def test_one_that_is_dearer_is_named_with_both_prices(name: str, caplog: pytest.LogCaptureFixture) -> None:
    start({"on_exceeded": "degrade", "budget_fallbacks": {"*gpt-4o-mini": name}})
    assert f"budgets 'acme': budget_fallbacks['*gpt-4o-mini']: {name!r} is dearer (12.50 USD" in caplog.text


def test_one_that_is_not_allowed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    start(degrading(big="openai/small"), allowed_models="openai/big")
    assert "'openai/small' is not among LLM_QUEUE_ALLOWED_MODELS" in caplog.text


@pytest.mark.parametrize("allowed", ["*", "gpt-*", "openai/gpt-*"])
def test_a_cheaper_one_that_is_allowed_is_not_worth_a_word(
    allowed: str, caplog: pytest.LogCaptureFixture
) -> None:
    start({"on_exceeded": "degrade", "budget_fallbacks": {"gpt-4o": "gpt-4o-mini"}}, allowed_models=allowed)
    assert not caplog.text


def test_a_budget_that_no_call_meets_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"budgets 'acme': match.provider 'opnai' .*mean 'openai'"):
        start({"match": {"provider": "opnai"}})
