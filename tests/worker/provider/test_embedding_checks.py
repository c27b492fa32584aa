"""What a job for embeddings is refused for, and what becomes of a text that is too long."""

from collections.abc import Sequence
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import EmbeddingCall, Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation
from support.providers.provider import ProviderStub
from support.workers.attempt_kit import Bench

SMALL = "openai/text-embedding-3-small"
LIMIT = 8_191


@pytest.fixture
def bench(provider: ProviderStub) -> Bench:
    return Bench.over(provider, equivalent_embeddings=f"{SMALL}=openai/ours, azure/a=azure/b")


def a_call(
    bench: Bench, *texts: str, model: str = SMALL, fallbacks: Sequence[str] = (), **params: Any
) -> EmbeddingCall:
    endpoint = Endpoint(api_key="sk-test", base_url=bench.stub.base_url("openai"))
    return EmbeddingCall(
        model=model,
        texts=texts or ("a",),
        params=params,
        fallback_models=tuple(fallbacks),
        endpoint=endpoint if model.startswith("openai/") else Endpoint(),
    )


def test_another_model_may_not_stand_in(bench: Bench) -> None:
    with pytest.raises(PolicyViolation, match=r"do not compare.*LLM_QUEUE_EQUIVALENT_EMBEDDINGS") as caught:
        bench.provider.check(a_call(bench, fallbacks=["openai/text-embedding-3-large"]))
    assert caught.value.kind is ErrorKind.MODEL_NOT_ALLOWED


def test_a_model_that_the_operator_lists_may(bench: Bench) -> None:
    bench.provider.check(a_call(bench, fallbacks=["openai/ours"]))
    with pytest.raises(PolicyViolation, match="do not compare"):
        bench.provider.check(a_call(bench, fallbacks=["openai/ours", "azure/a"]))


@pytest.mark.parametrize(
    ("model", "dimensions", "complaint"),
    [
        (SMALL, 1_537, "above the 1536"),
        ("openai/text-embedding-ada-002", 256, "lets nobody choose"),
        ("vertex_ai/text-embedding-005", 769, "above the 768"),
        ("mistral/mistral-embed", 256, "lets nobody choose"),
    ],
)
def test_a_length_that_the_model_lacks_is_refused(
    bench: Bench, model: str, dimensions: int, complaint: str
) -> None:
    with pytest.raises(PolicyViolation, match=complaint) as caught:
        bench.provider.check(a_call(bench, model=model, dimensions=dimensions))
    assert caught.value.kind is ErrorKind.BAD_REQUEST


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [(SMALL, 1_536), (SMALL, 1), ("openai/our-own-model", 5_000), ("vertex_ai/text-embedding-005", 256),
     ("gemini/gemini-embedding-001", 768), ("voyage/voyage-3-large", 256), ("cohere/embed-v4.0", 512)],
)  # fmt: skip
def test_a_length_that_it_has_or_may_have_is_not(bench: Bench, model: str, dimensions: int) -> None:
    bench.provider.check(a_call(bench, model=model, dimensions=dimensions))


async def sent(bench: Bench, call: EmbeddingCall) -> list[str]:
    target = await bench.provider.target(call, call.model)
    await bench.provider.complete(call, target, org="org")
    (request,) = bench.stub.requests()
    texts: list[str] = request.body["input"]
    return texts


async def test_a_text_that_is_too_long_is_named_and_not_sent(bench: Bench) -> None:
    call = a_call(bench, "short", "word " * (LIMIT + 50))
    target = await bench.provider.target(call, call.model)
    with pytest.raises(PolicyViolation, match=r"input\[1\].*8,191 tokens.*truncate") as caught:
        await bench.provider.complete(call, target, org="org")
    assert caught.value.kind is ErrorKind.CONTEXT_WINDOW
    assert bench.stub.requests() == []


async def test_it_is_cut_where_the_job_says_so(bench: Bench) -> None:
    long = "word " * (LIMIT + 50)
    short, cut = await sent(bench, a_call(bench, "short", long, truncate=True))
    assert short == "short"
    assert long.startswith(cut)
    assert LIMIT * 0.9 < len(cut) / len("word ") <= LIMIT, "nearly as much as the model takes"


async def test_a_long_text_of_few_tokens_is_sent_whole(bench: Bench) -> None:
    long = "word " * (LIMIT - 50)
    assert await sent(bench, a_call(bench, long)) == [long]


async def test_a_text_that_a_tokenizer_finds_hard_is_counted_in_time(bench: Bench) -> None:
    call = a_call(bench, "x" * 400_000)
    target = await bench.provider.target(call, call.model)
    with pytest.raises(PolicyViolation, match=r"input\[0\]"):
        await bench.provider.complete(call, target, org="org")
