"""One provider call for embeddings: what is sent, and what is taken for an answer."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import EmbeddingCall, Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.vectors import unpack_vectors
from support.providers.provider import ProviderStub, Step
from support.providers.provider_plan import VectorFault
from support.providers.wire.embeddings import derived_vector
from support.workers.attempt_kit import Bench, at_the_operators

MODEL = "openai/text-embedding-3-small"
TEXTS = ("the cat", "the dog", "Zürich")


@pytest.fixture
def bench(provider: ProviderStub) -> Bench:
    return at_the_operators(provider)


def a_call(bench: Bench, texts: Sequence[str] = TEXTS, model: str = MODEL, **params: Any) -> EmbeddingCall:
    endpoint = Endpoint(api_key="sk-of-the-test", base_url=bench.stub.base_url("openai"))
    return EmbeddingCall(model=model, texts=tuple(texts), params=params, endpoint=endpoint)


async def embedded(bench: Bench, call: EmbeddingCall) -> list[list[float]]:
    target = await bench.provider.target(call, call.model)
    completion = await bench.provider.complete(call, target, org="org")
    return unpack_vectors(completion.response, count=len(call.texts))


async def test_each_text_has_its_vector(bench: Bench) -> None:
    call = a_call(bench, dimensions=4)
    target = await bench.provider.target(call, call.model)
    completion = await bench.provider.complete(call, target, org="org")
    assert unpack_vectors(completion.response, count=3) == [derived_vector(text, 4) for text in TEXTS]
    assert completion.usage.prompt_tokens == 6
    assert completion.usage.cost_usd == pytest.approx(6 * 0.02 / 1e6), "LiteLLM's price for the model"
    (request,) = bench.stub.requests()
    assert request.path == "/v1/embeddings"
    assert request.body == {
        "model": "text-embedding-3-small",
        "input": list(TEXTS),
        "encoding_format": "base64",
        "dimensions": 4,
    }
    assert request.header("authorization") == "Bearer sk-of-the-test"


async def test_litellms_own_way_gives_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PROJECT_ID", "only the SDK reads it")
    assert await embedded(bench, a_call(bench, dimensions=4)) == [derived_vector(text, 4) for text in TEXTS]
    (request,) = bench.stub.requests()
    assert request.header("openai-project") == "only the SDK reads it", "the SDK made the call"


@pytest.mark.parametrize("way", ["ours", "the SDK's"])
async def test_a_failure_is_one_post(bench: Bench, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "the SDK's":
        monkeypatch.setenv("OPENAI_PROJECT_ID", "only the SDK reads it")
    bench.stub.plan("*", Step(status=500, times=None))
    call = a_call(bench)
    target = await bench.provider.target(call, call.model)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - LiteLLM's, whatever it is
        await bench.provider.complete(call, target, org="org")
    assert bench.provider.failure(caught.value, call, MODEL, target).kind is ErrorKind.INTERNAL_SERVER
    assert len(bench.stub.requests()) == 1


async def test_vectors_go_by_their_index_not_by_their_place(bench: Bench) -> None:
    bench.stub.plan("*", Step(vectors="shuffled"))
    assert await embedded(bench, a_call(bench)) == [derived_vector(text) for text in TEXTS]


@pytest.mark.parametrize("fault", ["one_short", "one_twice", "uneven", "other_length", "not_finite"])
async def test_an_answer_that_does_not_fit_its_texts_is_none(bench: Bench, fault: VectorFault) -> None:
    bench.stub.plan("*", Step(vectors=fault))
    call = a_call(bench, dimensions=8)
    target = await bench.provider.target(call, call.model)
    with pytest.raises(Exception, match=r"the provider's|vector") as caught:
        await bench.provider.complete(call, target, org="org")
    envelope = bench.provider.failure(caught.value, call, MODEL, target)
    assert envelope.kind is ErrorKind.RESPONSE_PROCESSING


@pytest.mark.parametrize("name", ["api_base", "extra_body", "input", "encoding_format", "mock_response"])
def test_a_parameter_that_is_the_operators_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(PolicyViolation, match=name):
        bench.provider.check(a_call(bench, **{name: "x"}))


def test_an_empty_text_is_refused_by_its_index(bench: Bench) -> None:
    with pytest.raises(PolicyViolation, match=r"input\[1\]: an empty text"):
        bench.provider.check(a_call(bench, ["a", "", "c"]))


def test_vectors_are_exact_as_float32() -> None:
    assert all(math.isfinite(value) for value in derived_vector("x"))


async def test_what_a_tenants_own_server_counts_has_no_price(provider: ProviderStub) -> None:
    bench = Bench.over(provider)
    call = a_call(bench)
    target = await bench.provider.target(call, call.model)
    completion = await bench.provider.complete(call, target, org="org")
    assert completion.usage.prompt_tokens == 6
    assert completion.usage.cost_usd is None
