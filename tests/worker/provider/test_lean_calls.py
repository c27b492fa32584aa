"""Calls take a shorter way through LiteLLM, whole or streamed, to the same chunks and the same end."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.worker.provider.litellm_api import azure_call
from rustic_ai.llm_queue.worker.provider.litellm_api import fast_path as lean_calls
from rustic_ai.llm_queue.worker.provider.targets.credentials import Target
from support.providers.provider import Step
from support.providers.provider_plan import Fault
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content
from support.workers.both_ways import (
    ANSWERS,
    BREAKS,
    BY_HANDLERS,
    CONVERSATIONS,
    FAILURES,
    PARAMETERS,
    SDKS_ENDS,
    TOOL,
    assert_broken_alike,
    both_ends,
    is_pictured,
    made_by_the_sdk,
)

ENDPOINTS: dict[str, Endpoint] = {
    "key": Endpoint(api_key="sk-of-the-job"),
    "headers": Endpoint(api_key="sk-of-the-job", extra_headers={"X-Team": "a", "X-two": "b"}),
}
NEWER = {"reasoning": "openai/o3", "newest": "openai/gpt-5", "unheard of": "openai/my-model"}
OF_HANDLERS = (
    "azure/o3",
    "azure/gpt-5",
    "anthropic/claude-opus-4-1",
    "anthropic/my-model",
    "gemini/gemini-3-pro-preview",
)
#: By OpenAI's SDK, by a client of LiteLLM's own in OpenAI's form, and by handlers of one provider each.
ASKED = {
    "openai": MODELS["openai"],
    "deepseek": "deepseek/deepseek-chat",
    **{wire: MODELS[wire] for wire in ("anthropic", "gemini", "azure")},
}


@pytest.fixture(params=[*ASKED.values()], ids=[*ASKED])
def asked_model(request: pytest.FixtureRequest) -> str:
    """A model of each way in which LiteLLM calls providers that take a short way."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    """Whether chunks are asked for."""
    return bool(request.param)


@pytest.fixture
def both_ways(bench: Bench, asked_model: str, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask the same twice, the short way and LiteLLM's own; requests, ends and chunks of both."""

    async def ask(
        model: str = asked_model, step: Step | None = None, on: Bench = bench, sdk: bool = False, **how: Any
    ) -> Any:
        left = model.startswith(BY_HANDLERS) and is_pictured(how.get("messages", ()))
        told = sdk if model.startswith(("openai/", "azure/gpt")) else None
        short = "whole" if left else "lean"
        return await both_ends(
            monkeypatch, lambda: on, model, step, short=short, sdk=told, streamed=streamed, **how
        )

    return ask


@pytest.mark.parametrize("name", PARAMETERS)
async def test_parameters_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(**PARAMETERS[name])
    assert lean == whole


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_messages_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(messages=[*CONVERSATIONS[name], {"role": "user", "content": "go on"}])
    assert lean == whole


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_read_as_by_litellms_own_way(both_ways: Any, name: str, streamed: bool) -> None:
    lean, whole = await both_ways(step=ANSWERS[name])
    assert lean == whole
    assert bool(lean[3:] and lean[3]) == streamed, "chunks have come"


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_has_the_name_it_has_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=FAILURES[name])
    assert lean == whole


@pytest.mark.parametrize("streamed", [False], indirect=True)
@pytest.mark.parametrize("name", SDKS_ENDS)
async def test_an_odd_end_is_the_one_that_the_sdk_makes_of_it(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=SDKS_ENDS[name])
    assert lean == whole


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_answer_is_one_by_litellms_own_way(both_ways: Any, fault: Fault) -> None:
    assert_broken_alike(await both_ways(step=Step(fault=fault, text="secret words", times=None)))


async def test_an_endless_wait_ends_as_by_litellms_own_way(bench: Bench, both_ways: Any) -> None:
    impatient = Bench.over(bench.stub, max_timeout="1s")
    ends = await both_ways(step=Step(delay_s=5, times=None), on=impatient)
    for _, (envelope, _), *_ in ends:
        assert envelope["kind"] == "timeout"
        del envelope["message"]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_jobs_own_endpoint_is_used_as_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(endpoint=ENDPOINTS[name])
    assert lean == whole


@pytest.mark.parametrize("asked_model", [MODELS["openai"]], indirect=True)
@pytest.mark.parametrize("model", [*NEWER.values(), *OF_HANDLERS])
async def test_other_models_are_asked_as_by_litellms_own_way(both_ways: Any, model: str) -> None:
    lean, whole = await both_ways(model, temperature=0.3, max_tokens=9, tools=[TOOL], stop="x")
    assert lean == whole


async def by_the_sdk(bench: Bench, **how: Any) -> bool:
    answer = await bench.run("hello #way", how.pop("model", MODELS["openai"]), **how)
    (request,) = bench.stub.requests("way")
    assert content(answer) == request.text
    return made_by_the_sdk(request)


async def test_a_parameter_that_litellm_does_more_about_goes_by_the_sdk(bench: Bench) -> None:
    assert await by_the_sdk(bench, model="openai/o3", reasoning_effort="low")


async def test_all_goes_litellms_way_where_the_fast_path_is_off(bench: Bench, streamed: bool) -> None:
    assert not await by_the_sdk(bench, sink=NotedSink() if streamed else None)
    bench.stub.reset()
    slow = Bench.over(bench.stub, fast_path="off")
    assert await by_the_sdk(slow, sink=NotedSink() if streamed else None)


@pytest.mark.parametrize(
    ("model", "tools"),
    [
        ("openai/o3-pro", []),  # only by OpenAI's Responses API
        ("openai/responses/gpt-4o", []),
        ("openai/gpt-5.4", [TOOL]),  # OpenAI's chat refuses functions of a model that reasons
        ("openai/ft:babbage-002:me", []),  # only by the older completions
    ],
)
def test_a_model_that_litellm_asks_elsewhere_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, model: str, tools: list[Any]
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    messages = [{"role": "user", "content": "ask"}]
    arguments = {"model": model, "messages": messages, **({"tools": tools} if tools else {})}
    assert not lean_calls.fits(Target(model, "openai", {}), arguments, {})


async def test_an_azure_address_of_another_form_is_left_to_the_sdk(both_ways: Any, bench: Bench) -> None:
    base = f"{bench.stub.base_url('azure')}/openai/deployments/gpt-4o"
    ends = await both_ways("azure/gpt-4o", sdk=True, endpoint=Endpoint(api_key="sk-1", base_url=base))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["AZURE_OPENAI_AD_TOKEN", "OPENAI_ORG_ID", "OPENAI_CUSTOM_HEADERS"])
def test_what_only_the_sdk_reads_leaves_azures_calls_to_it(name: str) -> None:
    context = SimpleNamespace(
        api_base="https://a.example", api_version=None, model="gpt-4o", headers={}, provider_config=None
    )
    url = azure_call.azure_url(context, {"AZURE_API_VERSION": "2024-10-21"})
    assert url == "https://a.example/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert azure_call.azure_url(context, {name: "set"}) is None


async def test_an_organization_of_the_call_is_sent(bench: Bench) -> None:
    assert await by_the_sdk(bench, endpoint=Endpoint(organization_id="org-1"))
    assert bench.stub.requests("way")[0].header("openai-organization") == "org-1"


async def test_a_header_that_both_would_set_goes_by_the_sdk(bench: Bench) -> None:
    headers = {"Authorization": "Bearer of-the-job"}
    assert await by_the_sdk(bench, endpoint=Endpoint(api_key="sk-1", extra_headers=headers))


async def test_an_organization_of_the_environment_is_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OPENAI_ORG_ID", "org-2")
    assert await by_the_sdk(bench)
