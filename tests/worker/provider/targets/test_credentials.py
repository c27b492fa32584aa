"""Whose key goes where: shown by what a rogue server that records everything is sent."""

import os

import pytest

from rustic_ai.llm_queue.tasks.call import CompletionCall, Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.allowed_endpoint import AllowedEndpoint
from rustic_ai.llm_queue.worker.provider.failures.classify import NoCredential, PolicyViolation
from rustic_ai.llm_queue.worker.provider.targets.credentials import Credentials
from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import MODELS, Bench, NotedSink

CANARY = "canary-of-the-worker"
TENANTS = "key-of-the-tenant"
#: Everything with which LiteLLM or an SDK below it might make itself known.
AMBIENT = {
    name: f"{CANARY}-{name}"
    for name in (
        *{name for names in KEY_VARIABLES.values() for name in names},
        "AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK", "DATABRICKS_API_KEY", "LITELLM_PROXY_API_KEY", "WATSONX_API_KEY",
        "OPENAI_ADMIN_KEY", "ANTHROPIC_AUTH_TOKEN",
    )
}  # fmt: skip


def _call(model: str, *fallbacks: str, **endpoint: object) -> CompletionCall:
    return CompletionCall(
        model=model,
        fallback_models=fallbacks,
        params={"messages": [{"role": "user", "content": "Hi"}]},
        endpoint=Endpoint.model_validate(endpoint),
    )


@pytest.fixture
def bench(provider: ProviderStub, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, value in (AMBIENT | {"AZURE_API_VERSION": "2024-10-21"}).items():
        monkeypatch.setitem(os.environ, name, value)
    return Bench.over(provider)


def _rogue_url(provider: ProviderStub, name: str) -> str:
    return provider.env()["HF_API_BASE"] if name == "huggingface" else provider.base_url(name)


def _everything_sent(provider: ProviderStub) -> str:
    return "\n".join(f"{one.path}?{one.query} {one.headers} {one.body}" for one in provider.requests())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", MODELS)
async def test_a_tenants_address_is_sent_the_tenants_key_and_nothing_of_the_workers(
    bench: Bench, name: str, streamed: bool
) -> None:
    endpoint = Endpoint.model_validate(
        {"base_url": _rogue_url(bench.stub, name), "api_key": TENANTS, "extra_headers": {"X-Own": "mine"}}
    )
    await bench.run("hello", MODELS[name], endpoint=endpoint, sink=NotedSink() if streamed else None)
    sent = _everything_sent(bench.stub)
    assert TENANTS in sent
    assert CANARY not in sent
    assert bench.stub.requests()[0].header("x-own") == "mine"


@pytest.mark.parametrize("name", MODELS)
async def test_an_address_without_a_key_of_its_own_is_sent_nothing(bench: Bench, name: str) -> None:
    endpoint = Endpoint(base_url=_rogue_url(bench.stub, name))
    envelope = await bench.failure("hello", MODELS[name], endpoint=endpoint)
    assert envelope.kind is ErrorKind.CREDENTIAL_REQUIRED
    assert "api_key" in envelope.message
    assert "LLM_QUEUE_ALLOWED_ENDPOINTS" in envelope.message
    assert bench.stub.requests() == []


async def test_an_allowed_address_is_sent_the_workers_key(bench: Bench) -> None:
    url = bench.stub.base_url("openai")
    bench = Bench.over(bench.stub, allowed_endpoints=f"openai={url}/")
    await bench.run("hello", "openai/gpt-4o", endpoint=Endpoint(base_url=url))
    (request,) = bench.stub.requests()
    assert request.header("authorization") == f"Bearer {AMBIENT['OPENAI_API_KEY']}"


async def test_a_fallback_of_another_provider_gets_nothing_of_the_endpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "ANTHROPIC_API_BASE", bench.stub.base_url("anthropic"))
    bench.stub.plan("*", Step(status=401, times=None), provider="openai")
    endpoint = Endpoint.model_validate(
        {
            "base_url": bench.stub.base_url("openai"),
            "api_key": TENANTS,
            "organization_id": "org-of-the-tenant",
            "extra_headers": {"X-Own": "header-of-the-tenant"},
        }
    )
    await bench.run("hello", "openai/gpt-4o", MODELS["anthropic"], endpoint=endpoint)
    first, second = bench.stub.requests()
    assert first.header("openai-organization") == "org-of-the-tenant"
    assert (second.provider, second.header("x-api-key")) == ("anthropic", AMBIENT["ANTHROPIC_API_KEY"])
    assert "of-the-tenant" not in f"{second.headers}{second.body}{second.query}"


async def test_a_fallback_of_the_same_provider_gets_the_endpoint(bench: Bench) -> None:
    bench.stub.plan("*", Step(status=404, times=None), model="gpt-4o")
    endpoint = Endpoint.model_validate({"base_url": bench.stub.base_url("openai"), "api_key": TENANTS})
    await bench.run("hello", "openai/gpt-4o", "gpt-4o-mini", "openai/gpt-4.1", endpoint=endpoint)
    assert [one.header("authorization") for one in bench.stub.requests()] == [f"Bearer {TENANTS}"] * 2
    assert CANARY not in _everything_sent(bench.stub)


async def test_a_missing_key_of_the_workers_leaves_the_fallback_to_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEY_VARIABLES["anthropic"]:
        monkeypatch.delitem(os.environ, name)
    monkeypatch.setitem(os.environ, "OPENAI_API_BASE", bench.stub.base_url("openai"))
    bench = Bench.over(bench.stub)
    answer = await bench.run("hello", MODELS["anthropic"], MODELS["openai"])
    assert [one.error for one in answer.attempts] == [ErrorKind.AUTHENTICATION, None]
    envelope = await bench.failure("hello", MODELS["anthropic"])
    assert "ANTHROPIC_API_KEY" in envelope.message


async def test_no_message_shows_a_key(bench: Bench) -> None:
    secret_header = "value-of-a-secret-header"
    bench.stub.plan("*", Step(status=400, message=f"you sent {TENANTS} and {secret_header}", times=None))
    endpoint = Endpoint.model_validate(
        {
            "base_url": bench.stub.base_url("openai"),
            "api_key": TENANTS,
            "extra_headers": {"X-Secret": secret_header},
        }
    )
    envelope = await bench.failure("hello", "openai/gpt-4o", endpoint=endpoint)
    assert envelope.message == "you sent [removed] and [removed]"


WORKER = Credentials({"OPENAI_API_KEY": CANARY, "GEMINI_API_KEY": CANARY})


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("huggingface/https://rogue.example/v1", ErrorKind.BAD_REQUEST),
        ("gemini/../../v1beta/files?x=", ErrorKind.BAD_REQUEST),
        ("azure/gpt-4o?api-version=x&", ErrorKind.BAD_REQUEST),
        ("openai/gpt\n4o", ErrorKind.BAD_REQUEST),
        ("https://rogue.example", ErrorKind.BAD_REQUEST),
        ("github_copilot/gpt-4o", ErrorKind.MODEL_NOT_ALLOWED),
        ("langfuse/prompt", ErrorKind.MODEL_NOT_ALLOWED),
    ],
)
def test_a_models_name_is_no_way_to_another_address(model: str, kind: ErrorKind) -> None:
    for call in (_call(model), _call("openai/gpt-4o", model)):
        with pytest.raises(PolicyViolation) as refused:
            WORKER.check(call)
        assert refused.value.kind is kind


@pytest.mark.parametrize(
    "endpoint",
    [
        {"api_key": "os.environ/OPENAI_API_KEY"},
        {"api_key": "oidc/file//etc/passwd"},
        {"base_url": "os.environ/OPENAI_API_BASE", "api_key": "k"},
        {"extra_headers": {"X-A": "os.environ/OPENAI_API_KEY"}},
        {"extra_headers": {"Host": "rogue.example"}},
        {"extra_headers": {"Transfer-Encoding": "chunked"}},
        {"extra_headers": {"X-A\r\nHost": "rogue.example"}},
        {"extra_headers": {"X-A": "a\r\nHost: rogue.example"}},
        {"vertex_location": "rogue.example/"},
        {"vertex_project": "../x"},
        {"api_version": "2024&x=y"},
        {"custom_llm_provider": "github_copilot"},
        {"base_url": "file:///etc/passwd", "api_key": "k"},
        {"base_url": "http://user:password@rogue.example", "api_key": "k"},
        {"base_url": "http://169.254.169.254/latest", "api_key": "k"},
        {"base_url": "http://[fe80::1]/", "api_key": "k"},
        {"base_url": "http://[::ffff:169.254.169.254]/", "api_key": "k"},
        {"base_url": "http://2852039166/", "api_key": "k"},
        {"base_url": "http://0xa9fea9fe/", "api_key": "k"},
        {"base_url": "http://metadata.google.internal/", "api_key": "k"},
        {"base_url": "//rogue.example", "api_key": "k"},
        {"base_url": "http://[", "api_key": "k"},
    ],
)
def test_an_endpoint_is_taken_for_what_it_says_and_no_more(endpoint: dict[str, object]) -> None:
    with pytest.raises(PolicyViolation):
        WORKER.check(_call("openai/gpt-4o", **endpoint))


@pytest.mark.parametrize(
    "model", ["vertex_ai/gemini-2.0-flash", "bedrock/anthropic.claude-v2", "sagemaker/mine"]
)
def test_a_provider_with_credentials_of_another_kind_takes_no_address_of_a_tenants(model: str) -> None:
    with pytest.raises(PolicyViolation) as refused:
        WORKER.check(_call(model, base_url="https://rogue.example", api_key="k"))
    assert refused.value.kind is ErrorKind.ENDPOINT_NOT_ALLOWED


def test_a_key_is_always_named() -> None:
    for name, model in MODELS.items():
        environment = dict.fromkeys(KEY_VARIABLES[name], f"key-{name}")
        options = Credentials(environment).target(_call(model), model).options
        assert options["api_key"] == f"key-{name}"


def test_googles_models_may_go_by_googles_name() -> None:
    target = WORKER.target(_call("google/gemini-2.0-flash"), "google/gemini-2.0-flash")
    assert (target.options["model"], target.options["api_key"]) == ("gemini/gemini-2.0-flash", CANARY)


def test_no_key_where_the_worker_has_none() -> None:
    with pytest.raises(NoCredential, match="MISTRAL_API_KEY"):
        WORKER.target(_call("mistral/mistral-large-latest"), "mistral/mistral-large-latest")


def test_an_allowed_address_is_that_address_alone() -> None:
    allowed = AllowedEndpoint.parse("openai=https://LLM.example:443/v1/")
    assert allowed.admits("openai", "https://llm.example/v1")
    for other in (
        "http://llm.example/v1",
        "https://llm.example/v1/x",
        "https://llm.example.rogue/v1",
        "https://llm.example:444/v1",
        "https://u@llm.example/v1",
        "https://llm.example/v1?x=y",
    ):
        assert not allowed.admits("openai", other)
    assert not allowed.admits("azure", "https://llm.example/v1")


def test_neither_repr_nor_str_shows_a_key() -> None:
    target = Credentials({}).target(_call("openai/gpt-4o", api_key=TENANTS), "openai/gpt-4o")
    assert TENANTS not in f"{target!r} {target}"


async def test_a_model_that_names_no_known_provider_says_how_to_name_one(bench: Bench) -> None:
    envelope = await bench.failure("hello", "nosuch/model")
    assert (envelope.kind, envelope.provider_status) == ("bad_request", None)
    assert envelope.message == (
        "no provider is known for the model 'nosuch/model': name it as provider/model, such as openai/gpt-4o"
    )
    assert not bench.stub.requests()
