"""Costs are LiteLLM's prices times the provider's counts, or nothing: never a guess, never a false zero."""

import os
from typing import Any

import litellm
import pytest

from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.worker.provider.cost import cost_usd
from rustic_ai.llm_queue.worker.provider.litellm_api import seam
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import Bench, NotedSink

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("openai/gpt-4o", "openai"),
        ("azure/gpt-4o", "azure"),
        ("anthropic/claude-sonnet-4-5", "anthropic"),
        ("gemini/gemini-2.5-flash", "gemini"),
    ],
)
def test_the_price_maps_price(model: str, provider: str) -> None:
    info = litellm.get_model_info(model, custom_llm_provider=provider)
    expected = 1_000 * (info["input_cost_per_token"] or 0) + 100 * (info["output_cost_per_token"] or 0)
    assert expected > 0
    assert cost_usd(model, provider, USAGE) == pytest.approx(expected)


NOTHING = {"reasoning_tokens": 0, "audio_tokens": None}
USAGES: tuple[dict[str, Any], ...] = (
    USAGE,
    {"prompt_tokens": 7, "completion_tokens": 3},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 300_001, "completion_tokens": 70_001, "total_tokens": 370_002},
    {**USAGE, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": NOTHING},
    {
        **USAGE,
        "prompt_tokens_details": {"text_tokens": 1_000},
        "completion_tokens_details": {"text_tokens": 100, **NOTHING},
    },
    {**USAGE, "prompt_tokens_details": {"text_tokens": 400, "image_tokens": 600}},
    {**USAGE, "prompt_tokens_details": {"text_tokens": 400}},
    {**USAGE, "completion_tokens_details": {"text_tokens": 40}},
    {**USAGE, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "speed": None},
    {**USAGE, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 200},
    {**USAGE, "speed": "fast", "inference_geo": "us"},
    {**USAGE, "prompt_tokens_details": {"cached_tokens": 600}},
    {**USAGE, "completion_tokens_details": {"reasoning_tokens": 60}},
    {**USAGE, "prompt_tokens_details": {"audio_tokens": 60}},
)


@pytest.mark.parametrize("provider", ["anthropic", "azure", "deepseek", "gemini", "openai"])
@pytest.mark.parametrize("tier", [None, "default", "priority", "flex"])
def test_every_models_cost_is_litellms(provider: str, tier: str | None) -> None:
    names = [name for name, entry in litellm.model_cost.items() if entry.get("litellm_provider") == provider]
    assert names
    differing = []
    for name in names:
        for usage in USAGES:
            ours = cost_usd(name, provider, usage, None, tier)
            if ours is None:
                continue
            theirs = litellm.cost_per_token(
                model=name, custom_llm_provider=provider, usage_object=seam.Usage(**usage), service_tier=tier
            )
            if ours != pytest.approx(sum(theirs), rel=1e-12):
                differing.append((name, usage, ours, theirs))
    assert not differing


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("openai/a-model-of-our-own", "openai"),
        ("a-model-of-our-own", None),
        ("openai/gpt-4o-of-our-own", "openai"),
        ("huggingface/meta-llama/Llama-3-8B", "huggingface"),
        ("hosted_vllm/whatever", "hosted_vllm"),
        ("nobody/knows", "nobody"),
    ],
)
def test_no_price_is_no_cost(model: str, provider: str | None) -> None:
    assert cost_usd(model, provider, USAGE) is None


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": None, "completion_tokens": 2}]
)
def test_nothing_counted_is_no_cost(usage: dict[str, int] | None) -> None:
    assert cost_usd("gpt-4o", "openai", usage) is None


def test_cached_tokens_cost_less() -> None:
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 1_000}}
    full, less = cost_usd("gpt-4o", "openai", USAGE), cost_usd("gpt-4o", "openai", cached)
    assert full is not None
    assert less is not None
    assert less < full


def test_usage_is_what_the_provider_said() -> None:
    assert Usage.of(None) == Usage()
    assert Usage.of({"prompt_tokens": 3, "completion_tokens": 0, "prompt_tokens_details": None}) == Usage(
        prompt_tokens=3, completion_tokens=0
    )


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answers_cost_and_tokens(
    provider: ProviderStub, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    for name, value in provider.env().items():
        monkeypatch.setitem(os.environ, name, value)
    step = Step(
        prompt_tokens=1_000, completion_tokens=100, cached_tokens=200, reasoning_tokens=40, times=None
    )
    provider.plan("*", step)
    bench = Bench.over(provider)
    answer = await bench.run("hello", "openai/gpt-4o", sink=NotedSink() if streamed else None)
    counted = answer.usage.model_copy(update={"cost_usd": None})
    assert counted == Usage(
        prompt_tokens=1_000, completion_tokens=100, cached_tokens=200, reasoning_tokens=40
    )
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 200}}
    assert answer.usage.cost_usd == pytest.approx(cost_usd("gpt-4o", "openai", usage))
    unknown = await bench.run("hello", "openai/of-our-own", sink=NotedSink() if streamed else None)
    assert (unknown.usage.cost_usd, unknown.usage) == (None, counted)
