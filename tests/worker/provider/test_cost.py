"""Costs are LiteLLM's prices times the provider's counts, or nothing: never a guess, never a false zero."""

import os

import litellm
import pytest

from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.worker.provider.cost import cost_usd
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
