"""A tenant names addresses, headers and fields; no server of the tenant's receives a key of the worker's.

On a real worker whose every credential is a canary, by jobs that pass none of an agent's own checks.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import litellm
import pytest

from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from support.callers.hostile import a_call, a_job, outcome_of
from support.providers.provider import ProviderStub, Step
from support.servers.fortress import CANARY
from support.servers.rogue import RogueServer

TENANT_KEY = "key-of-the-tenant"
#: Every provider LiteLLM knows; those of the tests first.
MAIN = {"openai", "anthropic", "gemini", "azure", "huggingface", "cohere_chat"}
PROVIDERS = sorted({*KEY_VARIABLES, *(str(getattr(one, "value", one)) for one in litellm.provider_list)})


@pytest.fixture
def rogue() -> Iterator[RogueServer]:
    with RogueServer() as server:
        yield server


def ended(engine: Engine, *calls: CompletionCall) -> list[Outcome]:
    """How jobs end, each of a guild of its own, so that they need not wait for one another."""

    async def all_of_them() -> list[Outcome]:
        jobs = [
            a_job(call, engine.settings, owner=Owner(org="rogues", guild=f"g{at}", agent="a"))
            for at, call in enumerate(calls)
        ]
        return list(await asyncio.gather(*(outcome_of(engine, job, 60.0) for job in jobs)))

    return engine.call(all_of_them)


def kinds(outcomes: list[Outcome]) -> list[ErrorKind]:
    assert all(isinstance(one, Failed) for one in outcomes), outcomes
    return [one.error.kind for one in outcomes if isinstance(one, Failed)]


def test_an_address_without_a_key_of_its_own_is_sent_nothing_whatever_the_provider(
    engine: Engine, rogue: RogueServer
) -> None:
    calls = [a_call(f"{name}/some-model", endpoint={"base_url": rogue.url}) for name in PROVIDERS]
    found = dict(zip(PROVIDERS, kinds(ended(engine, *calls)), strict=True))
    assert rogue.received == []
    refusals = {ErrorKind.CREDENTIAL_REQUIRED, ErrorKind.MODEL_NOT_ALLOWED}
    assert {name: kind for name, kind in found.items() if kind not in refusals} == {}
    assert {found[name] for name in MAIN} == {ErrorKind.CREDENTIAL_REQUIRED}


def test_an_address_with_a_key_of_its_own_is_sent_that_key_and_none_of_the_workers(
    engine: Engine, rogue: RogueServer
) -> None:
    endpoint = {"base_url": rogue.url, "api_key": TENANT_KEY, "extra_headers": {"X-Own": "mine"}}
    calls = [a_call(f"{name}/some-model", endpoint=endpoint) for name in PROVIDERS]
    found = dict(zip(PROVIDERS, kinds(ended(engine, *calls)), strict=True))
    assert CANARY not in rogue.everything
    assert rogue.everything.count(TENANT_KEY) >= len(MAIN), "they were really called"
    single_key = {name for name in KEY_VARIABLES if found[name] is ErrorKind.ENDPOINT_NOT_ALLOWED}
    assert single_key == set(), "a provider with one key takes an address with a key of its own"


def test_headers_of_a_tenants_do_not_lead_a_key_astray(
    engine: Engine, rogue: RogueServer, provider: ProviderStub
) -> None:
    hostile = [
        {"Host": rogue.url},
        {"X-Forwarded-Host": "rogue.example", "X-Own": "1"},
        {"Proxy-Authorization": "Basic x"},
        {"X-A": "os.environ/OPENAI_API_KEY"},
        {"X-A": f"a\r\nHost: {rogue.url}"},
        {"Transfer-Encoding": "chunked"},
    ]
    provider.plan("*", Step(text="ok", times=None))
    outcomes = ended(engine, *(a_call(endpoint={"extra_headers": headers}) for headers in hostile))
    answered = [one for one in outcomes if not isinstance(one, Failed)]
    assert len(answered) == 1, "a header of no meaning to the connection may go along"
    assert kinds([one for one in outcomes if isinstance(one, Failed)]) == [ErrorKind.BAD_REQUEST] * 5
    assert rogue.received == []
    (request,) = provider.requests()
    assert request.header("x-own") == "1"
    assert "environ" not in str(request.headers)


def test_a_fallback_takes_neither_the_address_nor_the_key_along(
    engine: Engine, rogue: RogueServer, provider: ProviderStub
) -> None:
    provider.plan("*", Step(text="ok", times=None))
    endpoint = {
        "base_url": rogue.url,
        "api_key": TENANT_KEY,
        "organization_id": "org-of-the-tenant",
        "extra_headers": {"X-Own": "header-of-the-tenant"},
    }
    fallbacks = {
        "openai/gpt-4o": "anthropic/claude-3-5-haiku-latest",
        "anthropic/claude-3-5-haiku-latest": "openai/gpt-4o-mini",
        "gemini/gemini-2.0-flash": "cohere/command-r",
        "cohere/command-r": "gemini/gemini-2.0-flash",
        "huggingface/meta-llama/Llama-2-7b": "azure/gpt-4o-mini",
        "azure/gpt-4o": "huggingface/meta-llama/Llama-2-7b",
    }
    outcomes = ended(engine, *(a_call(*pair, endpoint=endpoint) for pair in fallbacks.items()))
    assert [one.kind for one in outcomes] == ["answered"] * len(fallbacks)
    assert CANARY not in rogue.everything
    assert len(rogue.received) >= len(fallbacks)
    for request in provider.requests():
        sent = f"{request.headers}{request.body}{request.query}"
        assert "of-the-tenant" not in sent
        assert CANARY in sent, "the fallback's provider got the worker's key for it"


@pytest.mark.parametrize(
    "field",
    [
        {"api_base": "ROGUE"},
        {"base_url": "ROGUE"},
        {"api_key": "os.environ/OPENAI_API_KEY"},
        {"extra_body": {"x": 1}},
        {"extra_headers": {"Host": "ROGUE"}},
        {"extra_query": {"a": "b"}},
        {"fallbacks": [{"model": "openai/gpt-4o", "api_base": "ROGUE"}]},
        {"context_window_fallback_dict": {"openai/gpt-4o-mini": "x"}},
        {"model_list": [{"model_name": "x", "litellm_params": {"api_base": "ROGUE"}}]},
        {"litellm_params": {"api_base": "ROGUE"}},
        {"metadata": {"langfuse_host": "ROGUE"}},
        {"litellm_metadata": {"x": "y"}},
        {"success_callback": ["webhook"]},
        {"callbacks": ["langfuse"]},
        {"logger_fn": "print"},
        {"proxy_server_request": {"url": "ROGUE"}},
        {"client": "x"},
        {"shared_session": "x"},
        {"aws_bedrock_runtime_endpoint": "ROGUE"},
        {"aws_access_key_id": "x"},
        {"vertex_credentials": "ROGUE"},
        {"azure_ad_token_provider": "x"},
        {"deployment_id": "x"},
        {"custom_llm_provider": "github_copilot"},
        {"organization": "x"},
        {"timeout": 1e9},
        {"num_retries": 100},
        {"caching": True},
        {"cache": {"type": "redis"}},
        {"mock_response": {"__class__": "x"}},
        {"tools": [{"type": "mcp", "server_url": "ROGUE"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]},
        {"tools": "not a list"},
        {"hooks": 1},
        {"prompt_id": "x"},
        {"guardrails": ["x"]},
        {"user_config": {}},
        {"ssl_verify": False},
        {"stream": True},
        {"model": "openai/other"},
    ],
    ids=str,
)
def test_a_field_that_is_not_of_a_completion_is_refused_by_its_name(
    engine: Engine, rogue: RogueServer, provider: ProviderStub, field: dict[str, Any]
) -> None:
    named = {name: _at(value, rogue.url) for name, value in field.items()}
    call = a_call().model_copy(update={"params": {**a_call().params, **named}})
    (outcome,) = ended(engine, call)
    assert isinstance(outcome, Failed)
    assert outcome.error.kind is ErrorKind.BAD_REQUEST
    assert rogue.received == []
    assert provider.requests() == []


def _at(value: Any, url: str) -> Any:
    match value:
        case "ROGUE":
            return url
        case dict():
            return {name: _at(inner, url) for name, inner in value.items()}
        case list():
            return [_at(inner, url) for inner in value]
        case _:
            return value


def test_a_picture_at_a_tenants_address_is_fetched_without_a_key(engine: Engine, rogue: RogueServer) -> None:
    picture = [{"type": "image_url", "image_url": {"url": f"{rogue.url}/cat.png"}}]
    models = ("anthropic/claude-3-5-haiku-latest", "gemini/gemini-2.0-flash", "openai/gpt-4o-mini")
    ended(engine, *(a_call(model, prompt=picture) for model in models))
    assert CANARY not in rogue.everything


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(engine: Engine, status: int) -> None:
    with RogueServer() as inside, RogueServer(f"{inside.url}/latest/meta-data", status) as rogue:
        endpoint = {"base_url": rogue.url, "api_key": TENANT_KEY}
        models = (
            "openai/gpt-4o",
            "anthropic/claude-3-5-haiku-latest",
            "gemini/gemini-2.0-flash",
            "cohere/command-r",
        )
        outcomes = ended(engine, *(a_call(model, endpoint=endpoint) for model in models))
        assert len(rogue.received) >= len(models)
        assert inside.received == []
        assert all(isinstance(one, Failed) for one in outcomes)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:PORT",
        "http://localhost:PORT",
        "http://[::1]:PORT",
        "http://[::ffff:127.0.0.2]:PORT",
        "http://2130706434:PORT",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/v1",
        "http://redis:6379",
        "http://kubernetes.default.svc.cluster.local.internal/",
        "http://localtest.internal/v1",
    ],
)
def test_a_private_address_is_refused_even_with_a_key_of_its_own(
    engine: Engine, rogue: RogueServer, url: str
) -> None:
    endpoint = {"base_url": url.replace("PORT", str(rogue.port)), "api_key": TENANT_KEY}
    (outcome,) = ended(engine, a_call(endpoint=endpoint))
    assert isinstance(outcome, Failed)
    assert outcome.error.kind is ErrorKind.ENDPOINT_NOT_ALLOWED
    assert re.search("LLM_QUEUE_ALLOWED_HOSTS|link-local", outcome.error.message)
    assert rogue.received == []
