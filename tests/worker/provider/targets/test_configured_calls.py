"""Calls to deployments of LiteLLM's config file take the short way, and its router notices nothing of it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.worker.provider.litellm_api import seam
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import MODELS, Bench, NotedSink
from support.workers.both_ways import (
    ANSWERS,
    BREAKS,
    CONVERSATIONS,
    FAILURES,
    PARAMETERS,
    SDKS_ENDS,
    assert_broken_alike,
    both_ends,
    noted_ways,
)

MakeBench = Callable[..., Bench]
#: What an operator may write beside model, address and key.
ENTRIES: dict[str, dict[str, Any]] = {
    "rates": {"rpm": 100, "tpm": 100_000, "weight": 2, "timeout": 5},
    "prices": {"input_cost_per_token": 0.5, "output_cost_per_token": 0.25},
    "parameters": {"temperature": 0.25, "max_tokens": 7},
    "headers": {"extra_headers": {"X-Team": "a"}},
    "identity": {"model_info": {"id": "mine"}},
}
#: What has LiteLLM do more about a call.
LEFT_ENTRIES: dict[str, dict[str, Any]] = {
    "of the model": {"model_info": {"base_model": "openai/gpt-4o-mini"}},
    "dropped": {"additional_drop_params": ["user"]},
    "a flag": {"merge_reasoning_content_in_choices": True},
}


@pytest.fixture
def over(provider: ProviderStub, provider_keys: None, tmp_path: Path) -> MakeBench:
    """A bench under a config file with these entries."""

    def make(*entries: dict[str, Any], fast_path: str = "on", **router_settings: Any) -> Bench:
        path = tmp_path / "litellm.yaml"
        path.write_text(yaml.safe_dump({"model_list": entries, "router_settings": router_settings}))
        return Bench.over(provider, litellm_config=path, fast_path=fast_path)

    return make


@pytest.fixture
def both_ways(provider: ProviderStub, over: MakeBench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask a deployment the same twice, the short way and LiteLLM's own."""

    async def ask(
        wire: str = "openai", step: Step | None = None, entry: dict[str, Any] | None = None, **how: Any
    ) -> tuple[Any, Any]:
        deployment = _entry(MODELS[wire], provider.base_url(wire), **entry or {})
        # Each way has a router of its own: none finds what the other has put to rest.
        lean, whole = await both_ends(monkeypatch, lambda: over(deployment), "smart", step, sdk=None, **how)
        return lean, whole

    return ask


def _entry(
    model: str, url: str, name: str = "smart", model_info: dict[str, Any] | None = None, **params: Any
) -> dict[str, Any]:
    entry = {
        "model_name": name,
        "litellm_params": {"model": model, "api_base": url, "api_key": "sk-1", **params},
    }
    return entry | ({"model_info": model_info} if model_info else {})


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("name", ["nothing", "tools", "stops", "schema"])
async def test_parameters_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str, wire: str) -> None:
    lean, whole = await both_ways(wire, **PARAMETERS[name])
    assert lean == whole


@pytest.mark.parametrize("name", ["system", "tool"])
async def test_messages_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(messages=[*CONVERSATIONS[name], {"role": "user", "content": "go on"}])
    assert lean == whole


@pytest.mark.parametrize("name", ENTRIES)
async def test_what_the_operator_writes_arrives_as_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(entry=ENTRIES[name])
    assert lean == whole


async def test_the_callers_key_goes_as_by_litellms_own_way(both_ways: Any) -> None:
    lean, whole = await both_ways(endpoint=Endpoint.model_validate({"api_key": "sk-of-the-job"}))
    assert lean == whole


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("name", ["text", "tools", "cut short"])
async def test_an_answer_is_read_as_by_litellms_own_way(both_ways: Any, name: str, wire: str) -> None:
    lean, whole = await both_ways(wire, ANSWERS[name])
    assert lean == whole


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("name", ["400", "401", "500", "limited", "not JSON"])
async def test_a_failure_has_the_name_it_has_by_litellms_own_way(
    both_ways: Any, name: str, wire: str
) -> None:
    lean, whole = await both_ways(wire, FAILURES[name])
    assert lean == whole


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("name", ["text", "tools", "cut short"])
async def test_a_stream_is_read_as_by_litellms_own_way(both_ways: Any, name: str, wire: str) -> None:
    lean, whole = await both_ways(wire, ANSWERS[name], streamed=True)
    assert lean == whole


@pytest.mark.parametrize("name", ["no room for a word", "no answer", "{}"])
async def test_an_odd_end_is_the_one_that_the_sdk_makes_of_it(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=SDKS_ENDS[name])
    assert lean == whole


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_answer_is_one_by_litellms_own_way(both_ways: Any, fault: Any) -> None:
    assert_broken_alike(await both_ways(step=Step(fault=fault, text="secret words", times=None)))


@pytest.mark.parametrize("name", LEFT_ENTRIES)
async def test_a_deployment_of_which_litellm_knows_more_is_left_to_it(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(entry=LEFT_ENTRIES[name], short="whole")
    assert lean == whole


@pytest.mark.parametrize("strategy", ["latency-based-routing", "least-busy", "usage-based-routing-v2"])
async def test_a_strategy_that_weighs_litellms_calls_has_them(
    over: MakeBench, provider: ProviderStub, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    bench = over(_entry(MODELS["openai"], provider.base_url("openai")), routing_strategy=strategy)
    taken = noted_ways(monkeypatch)
    await bench.run("hello", "smart")
    assert taken == ["whole"]


async def test_a_model_that_the_file_does_not_name_takes_the_short_way(
    over: MakeBench, provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = over(_entry(MODELS["openai"], provider.base_url("openai")), routing_strategy="least-busy")
    taken = noted_ways(monkeypatch)
    await bench.run("hello", MODELS["gemini"])
    assert taken == ["lean"]


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """As in a worker with a config file, whose router hears of LiteLLM's own calls by their reports."""
    with contextlib.ExitStack() as stack:
        for report in seam.SUCCESS_REPORTS:
            stack.enter_context(report.undone())
        yield


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("way", ["short", "whole"])
@pytest.mark.parametrize(("answers", "rests"), [(0, True), (10, False)])
async def test_answers_that_the_router_counts_outweigh_failures(
    over: MakeBench,
    provider: ProviderStub,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    answers: int,
    rests: bool,
    streamed: bool,
) -> None:
    # LiteLLM takes thirty listeners and no more; each config of a test has left one.
    monkeypatch.setattr(litellm, "_async_success_callback", [])
    url, taken = provider.base_url("openai"), noted_ways(monkeypatch)
    heavy, light = (
        _entry("openai/a", url, "spread", weight=10**9),
        _entry("openai/b", url, "spread", weight=1),
    )
    with _reporting():
        bench = over(heavy, light, fast_path="on" if way == "short" else "off")
        for _ in range(answers):
            await bench.run("hello", "spread", sink=NotedSink() if streamed else None)
        assert bench.provider._router is not None
        counts = bench.provider._router._router.health().store.in_memory_cache.cache_dict
        await async_wait_until(lambda: sum(counts.values()) == answers)
        bench.stub.plan("*", Step(status=500, times=None), model="a")
        for _ in range(9):
            with contextlib.suppress(Exception):
                await bench.run("hello", "spread", max_retries=0)
    asked = [request.model for request in bench.stub.requests()][answers:]
    assert asked == (["a"] * 5 + ["b"] * 4 if rests else ["a"] * 9)
    assert set(taken) == {"lean" if way == "short" else "whole"}
