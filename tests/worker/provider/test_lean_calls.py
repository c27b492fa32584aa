"""Whole answers take a shorter way through LiteLLM, to the same end."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litellm
import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.worker.provider import provider as worker_provider
from rustic_ai.llm_queue.worker.provider.litellm_api import azure_call, handler_call
from rustic_ai.llm_queue.worker.provider.litellm_api import fast_path as lean_calls
from rustic_ai.llm_queue.worker.provider.targets.credentials import Target
from support.providers.provider import Step, ToolCall
from support.providers.provider_plan import Fault
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a place",
        "strict": True,
        "parameters": {"type": "object", "properties": {"place": {"type": "string", "pattern": "^(?<a>x)$"}}},
    },
    "cache_control": {"type": "ephemeral"},
    "defer_loading": True,
    "eager_input_streaming": True,
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}

#: What may be asked for. The tag finds each one's request.
PARAMETERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "numbers": {
        "temperature": 0.1,
        "top_p": 0.5,
        "frequency_penalty": 0.2,
        "presence_penalty": -1,
        "seed": 7,
    },
    "lengths": {"max_tokens": 12},
    "new lengths": {"max_completion_tokens": 12},
    "choices": {"n": 3, "logprobs": True, "top_logprobs": 2},
    "stops": {"stop": ["a", "b", "c", "d", "e"]},
    "stop": {"stop": "a"},
    "bias": {"logit_bias": {"12": -100}, "user": "me"},
    "keeping": {"store": True, "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k"},
    "tools": {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    "one tool": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "choice alone": {"tool_choice": "auto"},
    "no tools": {"tools": []},
    "json": {"response_format": {"type": "json_object"}},
    "schema": {"response_format": SCHEMA},
    "None": {"temperature": None, "tools": None},
}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "system": [{"role": "system", "content": "be brief"}],
    "developer": [{"role": "developer", "content": "be brief"}],
    "tool": [
        {"role": "user", "content": "w?"},
        CALLED,
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ],
    "no role": [{"content": "I said"}],
    "none within": [{"role": "assistant", "content": "x", "name": None}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "see", "cache_control": {}}, IMAGE]}],
}
ANSWERS: dict[str, Step] = {
    "text": Step(text="42 \u2028 \U0001f600"),
    "tools": Step(tool_calls=(ToolCall(name="weather", arguments='{"place": "x"}'), ToolCall(name="other"))),
    "reasoning": Step(text="42", reasoning="6 by 7", reasoning_tokens=3, cached_tokens=2),
    "refusal": Step(refusal="no"),
    "cut short": Step(text="4", finish_reason="length"),
    "empty": Step(text=""),
}
FAILURES: dict[str, Step] = {
    **{str(status): Step(status=status, times=None) for status in (400, 401, 403, 404, 409, 422, 500, 503)},
    "limited": Step(status=429, retry_after_s=0.01, times=None),
    "too long": Step(status=400, code="context_length_exceeded"),
    "filtered": Step(status=400, code="content_filter"),
    "not JSON": Step(status=502, raw="<html>bad gateway</html>", times=None),
}
#: In words of OpenAI's SDK, which LiteLLM calls Azure by.
AZURES_FAILURES: dict[str, Step] = {
    "no room for a word": Step(
        status=400,
        message="Could not finish the message because max_tokens or model output limit was reached.",
        times=None,
    ),
    "no answer": Step(raw="<html>welcome</html>", headers={"content-type": "text/html"}, times=None),
    "a list": Step(raw="[1]", times=None),
}
#: Of these LiteLLM's clients speak in words of their own.
BREAKS: tuple[Fault, ...] = ("refuse", "abort", "cut", "reset", "bad_json")
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
#: Pictures and files, which their handlers may fetch, are left to LiteLLM's own way.
BY_HANDLERS = ("anthropic/", "gemini/", "azure/")
#: How a client calls itself and what it can read: not what it asks for.
OF_THE_CLIENT = ("x-stainless", "user-agent", "accept", "host", "content-length", "connection")


@pytest.fixture(params=[*ASKED.values()], ids=[*ASKED])
def asked_model(request: pytest.FixtureRequest) -> str:
    """A model of each way in which LiteLLM calls providers that take a short way."""
    return str(request.param)


@pytest.fixture
def both_ways(bench: Bench, asked_model: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask the same twice, the short way and LiteLLM's own; the requests and the ends of both."""

    async def ask(
        model: str = asked_model, step: Step | None = None, on: Bench = bench, sdk: bool = False, **how: Any
    ) -> Any:
        pictured = IMAGE in [part for message in how.get("messages", ()) for part in _parts(message)]
        expected = "whole" if pictured and model.startswith(BY_HANDLERS) else None
        ends = []
        for way in ("lean", "whole"):
            taken = noted_ways(monkeypatch)
            bench.stub.plan("*", *([step] if step else []))
            if way == "whole":
                monkeypatch.setattr(worker_provider, "fits", lambda *_: False)
                monkeypatch.setattr(worker_provider, "handler_fits", lambda *_: False)
            before = len(bench.stub.requests())
            try:
                end: Any = (await on.run("ask", model, max_retries=1, **how)).response
            except Exception as error:
                end = _told(error)
            requests = bench.stub.requests()[before:]
            assert set(taken) == {expected or way}
            if model.startswith(("openai/", "azure/gpt")):
                by_the_sdk = sdk or "whole" in (expected, way)
                assert all(_by_the_sdk(request) == by_the_sdk for request in requests)
            ends.append(([_asked(request) for request in requests], _compared(end)))
        return ends

    return ask


def noted_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The way that each call from here on takes."""
    taken: list[str] = []
    short, by_handler = lean_calls.lean_completion, handler_call.handler_completion
    whole = litellm.acompletion

    async def by_the_short_way(*args: Any) -> object:
        taken.append("lean")
        return await short(*args)

    async def by_the_handler(*args: Any) -> object:
        taken.append("lean")
        return await by_handler(*args)

    async def by_litellms_way(**arguments: Any) -> object:
        taken.append("whole")
        return await whole(**arguments)

    monkeypatch.setattr(worker_provider, "lean_completion", by_the_short_way)
    monkeypatch.setattr(worker_provider, "handler_completion", by_the_handler)
    monkeypatch.setattr(litellm, "acompletion", by_litellms_way)
    return taken


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _by_the_sdk(request: Any) -> bool:
    return request.header("x-stainless-lang") is not None


def _told(error: Any) -> Any:
    envelope = getattr(error, "envelope", None)
    assert envelope is not None, repr(error)
    return envelope.model_dump(), [(one.status, one.error) for one in error.attempts]


def _asked(request: Any) -> Any:
    headers = {k.lower(): v for k, v in request.headers if not k.lower().startswith(OF_THE_CLIENT)}
    return request.path, request.body, headers


def _compared(end: Any) -> Any:
    if not isinstance(end, Mapping):
        return end
    # The simulator numbers its answers and their calls, and looks at its clock; Gemini names no calls,
    # and LiteLLM gives each a number by chance.
    for choice in end["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            call["id"] = re.sub(r"call_(\d+_|[0-9a-f]{28}$)", "call_", call["id"])
    return {name: end[name] for name in end.keys() - {"id", "created"}}


@pytest.mark.parametrize("name", PARAMETERS)
async def test_parameters_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(**PARAMETERS[name])
    assert lean == whole


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_messages_arrive_as_they_do_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(messages=[*CONVERSATIONS[name], {"role": "user", "content": "go on"}])
    assert lean == whole


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_read_as_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=ANSWERS[name])
    assert lean == whole


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_has_the_name_it_has_by_litellms_own_way(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=FAILURES[name])
    assert lean == whole


@pytest.mark.parametrize("asked_model", [ASKED["azure"]], indirect=True)
@pytest.mark.parametrize("name", AZURES_FAILURES)
async def test_azures_failure_is_the_one_that_the_sdk_makes_of_it(both_ways: Any, name: str) -> None:
    lean, whole = await both_ways(step=AZURES_FAILURES[name])
    assert lean == whole


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_answer_is_one_by_litellms_own_way(both_ways: Any, fault: Fault) -> None:
    ends = await both_ways(step=Step(fault=fault, text="secret words", times=None))
    for _, (envelope, _) in ends:
        assert "secret" not in envelope.pop("message")
    assert ends[0] == ends[1]


async def test_an_endless_wait_ends_as_by_litellms_own_way(bench: Bench, both_ways: Any) -> None:
    impatient = Bench.over(bench.stub, max_timeout="1s")
    ends = await both_ways(step=Step(delay_s=5, times=None), on=impatient)
    for _, (envelope, _) in ends:
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
    return _by_the_sdk(request)


async def test_a_stream_goes_by_the_sdk(bench: Bench) -> None:
    assert await by_the_sdk(bench, sink=NotedSink())


async def test_a_parameter_that_litellm_does_more_about_goes_by_the_sdk(bench: Bench) -> None:
    assert await by_the_sdk(bench, model="openai/o3", reasoning_effort="low")


async def test_all_goes_litellms_way_where_the_fast_path_is_off(bench: Bench) -> None:
    assert not await by_the_sdk(bench)
    bench.stub.reset()
    assert await by_the_sdk(Bench.over(bench.stub, fast_path="off"))


async def test_all_goes_litellms_way_where_the_operator_configures_it(bench: Bench, tmp_path: Path) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text("model_list: [{model_name: other, litellm_params: {model: openai/o3, api_key: key}}]")
    assert await by_the_sdk(Bench.over(bench.stub, litellm_config=config))


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
