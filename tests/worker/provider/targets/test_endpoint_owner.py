"""A job's endpoint goes with the provider it was configured for, also when the call names another model."""

import pytest

from rustic_ai.llm_queue.tasks.call import CompletionCall, Endpoint
from rustic_ai.llm_queue.worker.provider.targets.credentials import Credentials

WORKER = Credentials({"ANTHROPIC_API_KEY": "the-workers", "OPENAI_API_KEY": "the-workers"})


def call_of(model: str, *fallback_models: str) -> CompletionCall:
    endpoint = Endpoint.model_validate(
        {"api_key": "the-callers", "base_url": "https://llm.example/v1", "extra_headers": {"X-Team": "a"}}
    )
    return CompletionCall(
        model=model,
        endpoint_model="openai/gpt-4o",
        fallback_models=fallback_models,
        params={"messages": [{"role": "user", "content": "Hi"}]},
        endpoint=endpoint,
    )


def test_another_providers_model_gets_nothing_of_it() -> None:
    call = call_of("anthropic/claude-3-5-haiku-latest")
    WORKER.check(call)
    options = WORKER.target(call, call.model).options
    assert options["api_key"] == "the-workers"
    assert "api_base" not in options
    assert "extra_headers" not in options


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "gpt-4o-mini", "a-model-of-our-own"])
def test_the_same_providers_model_gets_it(model: str) -> None:
    call = call_of(model)
    options = WORKER.target(call, model).options
    assert (options["api_key"], options["api_base"]) == ("the-callers", "https://llm.example/v1")


def test_a_fallback_of_the_endpoints_provider_gets_it_where_the_named_model_does_not() -> None:
    call = call_of("anthropic/claude-3-5-haiku-latest", "openai/gpt-4o-mini")
    assert WORKER.target(call, "openai/gpt-4o-mini").options["api_key"] == "the-callers"
