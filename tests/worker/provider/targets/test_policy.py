"""What a worker's policy refuses is refused by the rule's name, before any provider is called."""

import socket
from pathlib import Path
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.policy.policy_file import POLICY_FIELDS
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError
from rustic_ai.llm_queue.worker.provider.targets.policy import check_job
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import MODELS, Bench, content


@pytest.fixture(autouse=True)
def keys(provider: ProviderStub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in provider.env().items():
        monkeypatch.setenv(name, value)


async def refusal(bench: Bench, *args: Any, **kwargs: Any) -> tuple[ErrorKind, str]:
    envelope = await bench.failure(*args, **kwargs)
    assert bench.stub.requests() == [], "a provider was called"
    return envelope.kind, envelope.message


@pytest.mark.parametrize(
    ("patterns", "model", "extra"),
    [
        ("anthropic/*", "openai/gpt-4o", {}),
        ("openai/gpt-4o-mini", "openai/gpt-4o", {}),
        ("openai/*", "gemini/gemini-2.0-flash", {}),
        ("gpt-4o", "gpt-4o", {"custom_llm_provider": "azure"}),
        ("openai/*", "gpt-4o", {"custom_llm_provider": "azure"}),
        ("OPENAI/*", "openai/gpt-4o", {}),
    ],
)
async def test_a_model_that_no_pattern_allows(
    provider: ProviderStub, patterns: str, model: str, extra: dict[str, Any]
) -> None:
    bench = Bench.over(provider, allowed_models=patterns)
    kind, message = await refusal(bench, "Hi", model, endpoint=Endpoint(**extra))
    assert kind is ErrorKind.MODEL_NOT_ALLOWED
    assert "LLM_QUEUE_ALLOWED_MODELS" in message


async def test_a_fallback_that_no_pattern_allows(provider: ProviderStub) -> None:
    bench = Bench.over(provider, allowed_models="openai/*")
    kind, message = await refusal(bench, "Hi", "openai/gpt-4o", MODELS["anthropic"])
    assert kind is ErrorKind.MODEL_NOT_ALLOWED
    assert MODELS["anthropic"] in message


@pytest.mark.parametrize(
    ("patterns", "model"),
    [
        ("openai/*", "openai/gpt-4o"),
        ("openai/*", "gpt-4o"),
        ("gpt-4o*", "gpt-4o-mini"),
        ("gemini/*", "google/gemini-2.5-flash"),
        ("anthropic/*,openai/gpt-4?", "openai/gpt-4o"),
        ("*", "cohere/command-r-plus"),
    ],
)
async def test_a_model_that_a_pattern_allows(provider: ProviderStub, patterns: str, model: str) -> None:
    provider.plan("*", Step(text="yes"))
    assert content(await Bench.over(provider, allowed_models=patterns).run("Hi", model)) == "yes"


@pytest.mark.parametrize(
    ("settings", "params", "rule"),
    [
        ({"max_n": 2}, {"n": 3}, "LLM_QUEUE_MAX_N"),
        ({"max_output_tokens": 50}, {"max_tokens": 51}, "LLM_QUEUE_MAX_OUTPUT_TOKENS"),
        ({"max_output_tokens": 50}, {"max_completion_tokens": 51}, "LLM_QUEUE_MAX_OUTPUT_TOKENS"),
        (
            {"max_output_tokens": 50},
            {"max_tokens": 5, "thinking": {"type": "enabled", "budget_tokens": 51}},
            "budget_tokens",
        ),
        ({"max_nesting": 8}, {"response_format": {"a": [[[[[[[[[[0]]]]]]]]]]}}, "LLM_QUEUE_MAX_NESTING"),
    ],
)
async def test_a_call_beyond_a_limit(
    provider: ProviderStub, settings: dict[str, Any], params: dict[str, Any], rule: str
) -> None:
    kind, message = await refusal(Bench.over(provider, **settings), "Hi", "openai/gpt-4o", **params)
    assert kind is ErrorKind.LIMIT_EXCEEDED
    assert rule in message


@pytest.mark.parametrize(
    "params", [{"n": "3"}, {"n": True}, {"n": 0}, {"max_tokens": "1"}, {"max_tokens": 1e9}]
)
async def test_a_number_that_is_none(provider: ProviderStub, params: dict[str, Any]) -> None:
    kind, message = await refusal(Bench.over(provider), "Hi", "openai/gpt-4o", **params)
    assert kind is ErrorKind.BAD_REQUEST
    assert next(iter(params)) in message


async def test_a_limit_of_tokens_holds_for_a_call_that_names_none(provider: ProviderStub) -> None:
    bench = Bench.over(provider, max_output_tokens=50)
    await bench.run("Hi", "openai/gpt-4o")
    await bench.run("Hi", "openai/gpt-4o", max_tokens=7)
    await Bench.over(provider).run("Hi", "openai/gpt-4o")
    assert [one.body.get("max_tokens") for one in provider.requests()] == [50, 7, None]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/", "http://10.1.1.1/a.png"])
async def test_a_url_in_a_message_that_is_not_to_be_fetched(provider: ProviderStub, url: str) -> None:
    picture: Any = [{"type": "image_url", "image_url": {"url": url}}]
    kind, _ = await refusal(Bench.over(provider), picture, MODELS["anthropic"])
    assert kind is ErrorKind.ENDPOINT_NOT_ALLOWED


async def test_a_public_name_of_a_private_address(
    provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell by the name, so the address is looked at before each attempt."""

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        assert host == "rogue.example.com"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    endpoint = Endpoint.model_validate({"base_url": "http://rogue.example.com/v1", "api_key": "tenants"})
    kind, message = await refusal(Bench.over(provider), "Hi", "openai/gpt-4o", endpoint=endpoint)
    assert kind is ErrorKind.ENDPOINT_NOT_ALLOWED
    assert "LLM_QUEUE_ALLOWED_HOSTS" in message


async def test_a_private_address_can_be_allowed_by_host_or_by_its_very_url(provider: ProviderStub) -> None:
    endpoint = Endpoint.model_validate({"base_url": provider.base_url("openai"), "api_key": "tenants"})
    refused = Bench.over(provider, allowed_hosts="")
    kind, _ = await refusal(refused, "Hi", "openai/gpt-4o", endpoint=endpoint)
    assert kind is ErrorKind.ENDPOINT_NOT_ALLOWED
    url = f"openai={provider.base_url('openai')}"
    for settings in ({"allowed_hosts": "127.0.0.0/8"}, {"allowed_hosts": "", "allowed_endpoints": url}):
        assert await Bench.over(provider, **settings).run("Hi", "openai/gpt-4o", endpoint=endpoint)


def a_job(**fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": "x",
        "model": "m",
        "queue": "q",
        "timeout_ms": 1,
        "fingerprints": "plain:1",
    }
    return Job(owner=Owner(org="o", guild="g", agent="a"), **{**known, "request": "plain:{}", **fields})


def test_a_job_too_large_or_too_long_is_not_even_opened() -> None:
    settings = WorkerSettings(max_body_bytes=1_000, max_timeout="1m")
    check_job(a_job(request="plain:" + "x" * 1_000, timeout_ms=60_000), settings)
    for fields, rule in (
        ({"request": "plain:" + "x" * 1_001}, "LLM_QUEUE_MAX_BODY_BYTES"),
        ({"request": "plain:" + "é" * 501}, "LLM_QUEUE_MAX_BODY_BYTES"),
        ({"request": "aes256gcm:k:1:" + "A" * 1_400}, "LLM_QUEUE_MAX_BODY_BYTES"),
        ({"timeout_ms": 60_001}, "LLM_QUEUE_MAX_TIMEOUT"),
    ):
        with pytest.raises(PolicyViolation, match=rule) as refused:
            check_job(a_job(**fields), settings)
        assert refused.value.kind is ErrorKind.LIMIT_EXCEEDED


FILE = """
allowed_models = ["openai/*"]
allowed_hosts = ["10.0.0.0/8"]
allowed_endpoints = ["openai=https://a.example/v1/", {provider = "azure", base_url = "https://B.example/"}]
max_n = 3
max_timeout = "5m"
max_running_per_guild = 7
"""


def test_one_file_serves_workers_and_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    monkeypatch.setenv("LLM_QUEUE_POLICY", str(path))
    worker, agent = WorkerSettings(), QueueSettings()
    assert worker.allowed_models == ("openai/*",)
    assert worker.max_running_per_guild == 7
    assert [one.base_url for one in worker.allowed_endpoints] == ["https://a.example/v1", "https://b.example"]
    assert (agent.max_n, worker.max_n) == (3, 3)
    assert agent.max_timeout.total_seconds() == 300
    monkeypatch.setenv("LLM_QUEUE_MAX_N", "5")
    assert WorkerSettings().max_n == 5, "the environment wins"
    assert WorkerSettings(max_n=6).max_n == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_m = 1", "max_m"),
        ("redis_url = 'redis://x'", "redis_url"),
        ("max_n =", "TOML"),
        ("max_n = 0", "LLM_QUEUE_MAX_N"),
        ("allowed_hosts = ['a b']", "a b"),
        ("allowed_endpoints = ['nonsense']", "LLM_QUEUE_ALLOWED_ENDPOINTS"),
        ("allowed_endpoints = [{provider = 'x'}]", "LLM_QUEUE_ALLOWED_ENDPOINTS"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        WorkerSettings(policy=path)
    with pytest.raises(SettingsError, match=r"LLM_QUEUE_POLICY.*cannot read"):
        WorkerSettings(policy=tmp_path / "missing.toml")


def test_every_policy_is_a_setting() -> None:
    assert set(WorkerSettings.model_fields) >= POLICY_FIELDS
