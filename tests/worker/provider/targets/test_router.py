"""LiteLLM's own config file: what it makes possible, and what is said of a broken one."""

import os
from pathlib import Path
from textwrap import dedent

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.targets.litellm_config import read_litellm_config
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import Bench, NotedSink, content, kinds


def _write(path: Path, text: str) -> Path:
    path.write_text(dedent(text), encoding="utf-8")
    return path


@pytest.fixture
def config(provider: ProviderStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(os.environ, "KEY_OF_THE_CONFIG", "sk-of-the-config")
    url, claude = provider.base_url("openai"), provider.base_url("anthropic")
    return _write(
        tmp_path / "litellm.yaml",
        f"""
        model_list:
          - model_name: smart
            litellm_params:
              model: openai/gpt-4o
              api_base: {url}
              api_key: os.environ/KEY_OF_THE_CONFIG
              rpm: 100
          - model_name: spread
            litellm_params: {{model: openai/spread-a, api_base: "{url}", api_key: key-a}}
          - model_name: spread
            litellm_params: {{model: openai/spread-b, api_base: "{url}", api_key: key-b}}
          - model_name: mixed
            litellm_params: {{model: openai/gpt-4o, api_base: "{url}", api_key: key-c}}
          - model_name: mixed
            litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: "{claude}", api_key: key-d}}
          - model_name: priced
            litellm_params:
              model: openai/gpt-4o
              api_base: {url}
              api_key: key-e
              input_cost_per_token: 0.5
              output_cost_per_token: 0.25
          - model_name: keyless
            litellm_params: {{model: openai/gpt-4o, api_base: "{url}"}}
        environment_variables:
          OPENAI_API_KEY: sk-from-the-files-environment
        router_settings:
          routing_strategy: simple-shuffle
          model_group_alias: {{"clever": "smart"}}
        """,
    )


@pytest.fixture
def bench(provider: ProviderStub, config: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delitem(os.environ, "OPENAI_API_KEY", raising=False)
    return Bench.over(provider, litellm_config=config)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["smart", "clever"])
async def test_a_request_may_name_a_model_of_the_config(bench: Bench, name: str, streamed: bool) -> None:
    sink = NotedSink()
    answer = await bench.run("hello", name, sink=sink if streamed else None)
    (request,) = bench.stub.requests()
    assert (request.model, request.header("authorization")) == ("gpt-4o", "Bearer sk-of-the-config")
    assert content(answer) == request.text
    assert sink.text() == (request.text if streamed else "")
    assert answer.model == name
    assert answer.usage.cost_usd is not None


async def test_a_price_of_the_file_goes_before_the_maps_and_stays_with_its_name(bench: Bench) -> None:
    bench.stub.plan("*", Step(prompt_tokens=10, completion_tokens=4, times=None))
    priced, plain = await bench.run("hello", "priced"), await bench.run("hello", "smart")
    assert priced.usage.cost_usd == 6.0
    assert plain.usage.cost_usd is not None
    assert plain.usage.cost_usd < 0.01


@pytest.mark.parametrize("streamed", [False, True])
async def test_retries_and_fallbacks_are_ours_whatever_the_file_says(bench: Bench, streamed: bool) -> None:
    bench.stub.plan("*", Step(status=500, times=None))
    envelope = await bench.failure("hello", "smart", sink=NotedSink() if streamed else None, max_retries=1)
    assert (envelope.kind, envelope.provider_status) == (ErrorKind.INTERNAL_SERVER, 500)
    assert [one.model for one in bench.stub.requests()] == ["gpt-4o"] * 2


async def test_load_is_spread_over_a_names_deployments(bench: Bench) -> None:
    for _ in range(20):
        await bench.run("hello", "spread")
    sent = {(one.model, one.header("authorization")) for one in bench.stub.requests()}
    assert sent == {("spread-a", "Bearer key-a"), ("spread-b", "Bearer key-b")}


async def test_a_deployment_that_fails_rests(bench: Bench) -> None:
    bench.stub.plan("*", Step(status=401, times=None), model="spread-a")
    for _ in range(12):
        try:
            await bench.run("hello", "spread")
        except Exception as failed:
            assert "authentication" in str(failed)  # noqa: PT017 - which of them fails is left to chance
    asked = [one.model for one in bench.stub.requests()]
    assert asked.count("spread-a") <= 2
    assert asked.count("spread-b") >= 10


async def test_a_name_of_the_config_may_be_a_fallback(bench: Bench) -> None:
    bench.stub.plan("*", Step(status=404, times=None), model="gpt-4o")
    answer = await bench.run("hello", "smart", "spread")
    assert kinds(answer) == ["not_found", "ok"]
    assert answer.model == "spread"


async def test_the_callers_key_goes_before_the_files(bench: Bench) -> None:
    await bench.run("hello", "smart", endpoint=Endpoint.model_validate({"api_key": "key-of-the-caller"}))
    (request,) = bench.stub.requests()
    assert request.header("authorization") == "Bearer key-of-the-caller"


async def test_the_callers_key_is_refused_where_it_might_go_to_another_provider(bench: Bench) -> None:
    envelope = await bench.failure(
        "hello", "mixed", endpoint=Endpoint.model_validate({"api_key": "key-of-the-caller"})
    )
    assert envelope.kind is ErrorKind.ENDPOINT_NOT_ALLOWED
    assert bench.stub.requests() == []


async def test_a_callers_address_gets_no_key_of_the_file(bench: Bench) -> None:
    url = bench.stub.base_url("openai")
    envelope = await bench.failure("hello", "smart", endpoint=Endpoint(base_url=url))
    assert envelope.kind is ErrorKind.CREDENTIAL_REQUIRED
    assert bench.stub.requests() == []


async def test_the_environment_goes_before_the_files_environment(
    bench: Bench, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.run("hello", "keyless")
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "sk-from-the-environment")
    await Bench.over(bench.stub, litellm_config=config).run("hello", "keyless")
    assert [one.header("authorization") for one in bench.stub.requests()] == [
        "Bearer sk-from-the-files-environment",
        "Bearer sk-from-the-environment",
    ]


async def test_what_the_file_does_not_name_is_called_as_without_it(
    bench: Bench, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bench.stub.env().items():
        monkeypatch.setitem(os.environ, name, value)
    await Bench.over(bench.stub, litellm_config=config).run("hello", "gemini/gemini-2.5-flash")
    assert [one.provider for one in bench.stub.requests()] == ["gemini"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_list: [", r"not YAML \(line"),
        ("- just\n- a list\n", "not a mapping"),
        ("", "not a mapping"),
        ("router_settings: {}\n", "no model_list"),
        ("model_list: []\n", "no model_list"),
        ("model_list: [{litellm_params: {model: gpt-4o}}]\n", r"model_list\[0\] has no model_name"),
        ("model_list: [{model_name: a}]\n", r"model_list\[0\] \(a\) has no litellm_params.model"),
        (
            "model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_key: os.environ/NOT_SET}}]\n",
            r"model_list\[0\].litellm_params.api_key refers to the variable NOT_SET, which is not set",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nenvironment_variables: 3\n",
            "environment_variables is not a mapping",
        ),
        ("model_list: [{model_name: 'openai/*', litellm_params: {model: 'openai/*'}}]\n", "name each model"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_variable(tmp_path: Path, text: str, says: str) -> None:
    path = _write(tmp_path / "litellm.yaml", text)
    with pytest.raises(SettingsError, match=says) as refused:
        read_litellm_config(path)
    assert str(refused.value).startswith("LLM_QUEUE_LITELLM_CONFIG: ")


@pytest.mark.parametrize("make", ["missing", "folder", "latin"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_the_variable(tmp_path: Path, make: str) -> None:
    path = tmp_path / "litellm.yaml"
    if make == "folder":
        path.mkdir()
    elif make == "latin":
        path.write_bytes("model_list: [ä]".encode("latin-1"))
    with pytest.raises(SettingsError, match="LLM_QUEUE_LITELLM_CONFIG: cannot read"):
        read_litellm_config(path)


def test_the_error_shows_no_key(tmp_path: Path) -> None:
    path = _write(tmp_path / "litellm.yaml", "model_list:\n  - api_key: sk-very-secret-value: [\n")
    with pytest.raises(SettingsError) as refused:
        read_litellm_config(path)
    assert "sk-very-secret-value" not in str(refused.value)
