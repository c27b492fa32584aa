"""A limit that no call can meet is refused when the worker starts, by its name and its pattern."""

from pathlib import Path
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.provider import Provider
from rustic_ai.llm_queue.worker.settings import WorkerSettings


def provider_with(**match: Any) -> Provider:
    row = {"name": "x", "rpm": 5, "match": match}
    return Provider(WorkerSettings(limits=[row]), {})


@pytest.mark.parametrize("pattern", ["openai", "azure*", "*", "vertex_ai", "bedrock", "hosted_vllm"])
def test_a_provider_that_litellm_has_may_be_named(pattern: str) -> None:
    assert len(provider_with(provider=pattern).limit_rules) == 1


@pytest.mark.parametrize(
    ("match", "says"),
    [
        ({"provider": "opnai"}, "limits 'x': match.provider 'opnai' can never .* did you mean 'openai'"),
        ({"provider": ["openai", "no-such-*"]}, "match.provider 'no-such-\\*' can never match"),
        ({"provider": "OpenAI"}, "did you mean 'openai'"),
        ({"deployment": "eu-*"}, "match.deployment 'eu-\\*' can never match: .* LLM_QUEUE_LITELLM_CONFIG"),
    ],
)
def test_one_that_no_call_meets_is_refused(match: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        provider_with(**match)


@pytest.mark.parametrize(
    "pattern", ["gpt-4*", "openai/gpt-4o", "anthropic/claude-*", "openai/our-own-*", "openai/cheap", "fast"]
)
def test_a_model_that_somebody_knows_may_be_named(
    pattern: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text("model_list: [{model_name: fast, litellm_params: {model: openai/a, api_key: k}}]")
    budget = {"name": "b", "usd": 1.0, "period": "day", "budget_fallbacks": {"gpt-4o": "openai/cheap"}}
    degrades = {**budget, "on_exceeded": "degrade"}
    row = {"name": "x", "rpm": 5, "match": {"model": pattern}}
    Provider(
        WorkerSettings(
            limits=[row], litellm_config=config, budgets=[degrades], allowed_models="openai/our-own-*,fast"
        ),
        {},
    )
    assert "match.model" not in caplog.text


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("openai/gtp-4o", "did you mean 'openai/gpt-4o'?"), ("no-such-*", "unless jobs name such a model")],
)
def test_a_model_that_nobody_knows_is_named_in_the_log(
    pattern: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(provider_with(model=["gpt-4o", pattern]).limit_rules) == 1, "any server may have it"
    (line,) = [one.getMessage() for one in caplog.records if "match.model" in one.getMessage()]
    assert line.startswith(f"limits 'x': match.model '{pattern}' fits no model")
    assert hint in line


def test_deployments_of_a_config_may_be_named(tmp_path: Path) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text("model_list: [{model_name: m, litellm_params: {model: openai/a, api_key: k}}]")
    row = {"name": "x", "rpm": 5, "match": {"deployment": "*"}}
    assert Provider(WorkerSettings(limits=[row], litellm_config=config), {}).limit_rules
