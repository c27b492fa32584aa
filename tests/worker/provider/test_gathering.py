"""Jobs that share a provider call: who shares, what each gets of it, and what becomes of a bad text."""

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import EmbeddingCall, Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.vectors import unpack_vectors
from rustic_ai.llm_queue.worker.attempts.answer import Answer, AttemptsFailed
from rustic_ai.llm_queue.worker.attempts.attempts import attempt_all
from rustic_ai.llm_queue.worker.attempts.log import AttemptLog
from rustic_ai.llm_queue.worker.provider.embeddings import gathering
from rustic_ai.llm_queue.worker.provider.embeddings.shares import split_exactly
from rustic_ai.llm_queue.worker.provider.provider import Provider
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.providers.wire.embeddings import derived_vector
from support.workers.attempt_kit import Bench, NotedJournal, at_the_operators

MODEL = "openai/text-embedding-3-small"


@pytest.fixture
def bench(provider: ProviderStub) -> Bench:
    """A worker that has always more jobs on their way, so that a call waits for them."""
    bench = at_the_operators(provider)
    bench.provider = Provider(bench.settings, dict(os.environ), jobs_on_their_way=lambda: 1)
    return bench


def a_call(bench: Bench, *texts: str, key: str = "sk-test", **params: Any) -> EmbeddingCall:
    endpoint = Endpoint(api_key=key, base_url=bench.stub.base_url("openai"))
    return EmbeddingCall(model=MODEL, texts=texts, params=params, endpoint=endpoint, max_retries=0)


async def attempted(
    bench: Bench,
    call: EmbeddingCall,
    org: str = "org",
    timeout_s: float = 30,
    log: AttemptLog | None = None,
) -> Answer:
    return await attempt_all(
        call,
        log=log or AttemptLog(epoch=1, begun=1),
        deadline_s=asyncio.get_running_loop().time() + timeout_s,
        provider=bench.provider,
        settings=bench.settings,
        journal=NotedJournal(),
        sink=None,
        org=org,
    )


def vectors(answer: Answer, call: EmbeddingCall) -> list[list[float]]:
    return unpack_vectors(answer.response, count=len(call.texts))


def statuses(attempts: Sequence[AttemptRecord]) -> list[tuple[str, str | None]]:
    return [(one.status, one.error) for one in attempts]


async def test_jobs_of_one_moment_share_a_call(bench: Bench) -> None:
    calls = [a_call(bench, *(f"text {job} {at}" for at in range(job % 3 + 1))) for job in range(30)]
    answers = await asyncio.gather(*(attempted(bench, call) for call in calls))
    for call, answer in zip(calls, answers, strict=True):
        assert vectors(answer, call) == [derived_vector(text) for text in call.texts]
        assert statuses(answer.attempts) == [("ok", None)]
    (request,) = bench.stub.requests()
    assert len(request.body["input"]) == sum(len(call.texts) for call in calls)
    whole = sum(len(text) // 4 + 1 for call in calls for text in call.texts)
    assert sum(answer.usage.prompt_tokens or 0 for answer in answers) == whole
    pico = sum(round((answer.usage.cost_usd or 0) * 10**12) for answer in answers)
    assert pico == whole * 20_000, "the call's cost, to the picodollar"
    assert all(answer.usage.usage_estimated for answer in answers), "each one's part is by length"


async def test_a_call_of_ones_own_is_counted_not_estimated(bench: Bench) -> None:
    answer = await attempted(bench, a_call(bench, "alone"))
    assert answer.usage.prompt_tokens == 2
    assert not answer.usage.usage_estimated


async def test_a_job_that_is_alone_waits_for_nobody(
    provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "WINDOW_S", 3_600)
    bench = at_the_operators(provider)
    answer = await attempted(bench, a_call(bench, "alone"), timeout_s=20)
    assert statuses(answer.attempts) == [("ok", None)]


async def test_a_job_waits_for_others_no_longer_than_it_may(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_S", 3_600)
    answer = await attempted(bench, a_call(bench, "the others never come"), timeout_s=20)
    assert statuses(answer.attempts) == [("ok", None)]


@pytest.mark.parametrize(
    "second", [{"dimensions": 4}, {"key": "sk-another"}, {"input_type": "query"}, {"user": "me"}]
)
async def test_jobs_that_differ_share_nothing(bench: Bench, second: dict[str, Any]) -> None:
    await asyncio.gather(attempted(bench, a_call(bench, "a")), attempted(bench, a_call(bench, "b", **second)))
    assert sorted(one.body["input"] for one in bench.stub.requests()) == [["a"], ["b"]]


async def test_two_organisations_never_share_a_call(bench: Bench) -> None:
    await asyncio.gather(
        attempted(bench, a_call(bench, "a"), org="one"), attempted(bench, a_call(bench, "b"), org="two")
    )
    assert sorted(one.body["input"] for one in bench.stub.requests()) == [["a"], ["b"]]


async def test_no_call_has_more_texts_than_the_provider_takes(bench: Bench) -> None:
    calls = [a_call(bench, *(f"{job} {at}" for at in range(256))) for job in range(9)]
    await asyncio.gather(*(attempted(bench, call) for call in calls))
    assert sorted(len(one.body["input"]) for one in bench.stub.requests()) == [256, 2048]


async def test_a_bad_text_among_good_ones_fails_alone(bench: Bench) -> None:
    bench.stub.plan("bad", Step(status=400, message="this text is bad", times=None))
    calls = [a_call(bench, f"good {job}") for job in range(64)]
    calls[41] = a_call(bench, "a #bad one")
    results = await asyncio.gather(*(attempted(bench, call) for call in calls), return_exceptions=True)
    for at, (call, result) in enumerate(zip(calls, results, strict=True)):
        if at == 41:
            assert isinstance(result, AttemptsFailed)
            assert result.envelope.kind is ErrorKind.BAD_REQUEST
            assert "this text is bad" in result.envelope.message
            assert statuses(result.attempts) == [("failed", ErrorKind.BAD_REQUEST)]
        else:
            assert isinstance(result, Answer)
            assert vectors(result, call) == [derived_vector(call.texts[0])]
            assert statuses(result.attempts) == [("ok", None)]
    requests = bench.stub.requests()
    assert len(requests) == 1 + 2 * 6, "halved six times, from 64 to 1"
    answered = [text for one in requests if one.status == 200 for text in one.body["input"]]
    assert len(answered) == len(set(answered)) == 63, "no good text is paid for twice"


async def test_a_bad_text_of_one_job_is_named(bench: Bench) -> None:
    bench.stub.plan("bad", Step(status=400, message="this text is bad", times=None))
    texts = [f"good {at}" for at in range(64)]
    texts[41] = "a #bad one"
    log = AttemptLog(epoch=1, begun=1)
    with pytest.raises(AttemptsFailed) as caught:
        await attempted(bench, a_call(bench, *texts), log=log)
    envelope = caught.value.envelope
    assert envelope.kind is ErrorKind.BAD_REQUEST
    assert envelope.param == "input[41]"
    assert envelope.message.startswith("input[41]: ")
    assert "this text is bad" in envelope.message
    requests = bench.stub.requests()
    assert len(requests) <= 1 + 2 * 6
    answered = [text for one in requests if one.status == 200 for text in one.body["input"]]
    assert answered == texts[:41], "what comes after it is not paid for"
    used = log.unanswered_usage(estimated_prompt_tokens=0)
    assert used.prompt_tokens == sum(len(text) // 4 + 1 for text in answered), "what was paid is on record"
    assert used.cost_usd == pytest.approx(used.prompt_tokens * 0.02e-6)


async def test_a_provider_that_takes_fewer_texts_than_known_answers_all_the_same(bench: Bench) -> None:
    bench.stub.plan("*", Step(status=400, message="at most 32 inputs", times=1))
    call = a_call(bench, *(f"text {at}" for at in range(64)))
    answer = await attempted(bench, call)
    assert vectors(answer, call) == [derived_vector(text) for text in call.texts]
    assert answer.usage.prompt_tokens == sum(len(text) // 4 + 1 for text in call.texts)
    assert [len(one.body["input"]) for one in bench.stub.requests()] == [64, 32, 32]


async def test_a_failing_provider_fails_each_job_by_itself(bench: Bench) -> None:
    bench.stub.plan("*", Step(status=503, times=1))
    calls = [a_call(bench, f"text {job}").model_copy(update={"max_retries": 2}) for job in range(10)]
    answers = await asyncio.gather(*(attempted(bench, call) for call in calls))
    for call, answer in zip(calls, answers, strict=True):
        assert vectors(answer, call) == [derived_vector(call.texts[0])]
        assert statuses(answer.attempts) == [("failed", ErrorKind.INTERNAL_SERVER), ("ok", None)]


async def test_an_unreadable_answer_is_the_providers_fault_for_all(bench: Bench) -> None:
    bench.stub.plan("*", Step(vectors="one_short", times=None))
    results = await asyncio.gather(
        *(attempted(bench, a_call(bench, f"text {job}")) for job in range(3)), return_exceptions=True
    )
    assert [one.envelope.kind for one in results if isinstance(one, AttemptsFailed)] == [
        ErrorKind.RESPONSE_PROCESSING
    ] * 3


async def test_the_call_ends_with_the_last_that_leaves_it(bench: Bench) -> None:
    bench.stub.plan("slow", Step(hold=True))
    jobs = [asyncio.create_task(attempted(bench, a_call(bench, f"#slow {at}"))) for at in range(3)]
    await async_wait_until(lambda: bench.stub.requests("slow"), what="the shared call")
    for job in jobs[:2]:
        job.cancel()
    await asyncio.gather(*jobs[:2], return_exceptions=True)
    (request,) = bench.stub.requests("slow")
    assert request.open, "the third still waits"
    jobs[2].cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    await async_wait_until(
        lambda: bench.stub.requests("slow")[0].client_closed, what="the connection to be closed"
    )


async def test_a_job_that_leaves_in_time_is_not_sent(bench: Bench) -> None:
    first = asyncio.create_task(attempted(bench, a_call(bench, "leaves")))
    second = asyncio.create_task(attempted(bench, a_call(bench, "stays")))
    await asyncio.sleep(0)
    first.cancel()
    answer = await second
    assert vectors(answer, a_call(bench, "stays")) == [derived_vector("stays")]
    sent = [text for one in bench.stub.requests() for text in one.body["input"]]
    assert sent == ["stays"]


@given(total=st.integers(0, 10**15), weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
@settings(max_examples=500, deadline=None)
def test_what_is_split_adds_up(total: int, weights: list[int]) -> None:
    parts = split_exactly(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) <= 1


async def test_no_job_ever_gets_anothers_vector(bench: Bench) -> None:
    chance = random.Random(18)
    bench.stub.plan("bad", Step(status=400, times=None))
    bench.stub.plan("*", *(Step(vectors="shuffled", times=1) for _ in range(20)))

    async def one(job: int) -> None:
        await asyncio.sleep(chance.random() * 0.1)
        texts = [
            f"{job}/{at} {'#bad' if chance.random() < 0.05 else ''}" for at in range(chance.randint(1, 4))
        ]
        call = a_call(bench, *texts)
        try:
            answer = await attempted(bench, call)
        except AttemptsFailed:
            assert any("#bad" in text for text in texts)
        else:
            assert vectors(answer, call) == [derived_vector(text) for text in texts]
            assert not any("#bad" in text for text in texts)

    await asyncio.gather(*(one(job) for job in range(200)))


async def test_a_text_that_a_server_fails_on_fails_its_own_job(bench: Bench) -> None:
    # Some servers answer 500 to a text that is too long for them.
    bench.stub.plan("bad", Step(status=500, message="too large to process", times=None))
    calls = [a_call(bench, text).model_copy(update={"max_retries": 1}) for text in ("a", "b", "#bad", "c")]
    ended = await asyncio.gather(*(attempted(bench, call) for call in calls), return_exceptions=True)
    failed = [at for at, one in enumerate(ended) if isinstance(one, BaseException)]
    assert failed == [2]
    error = ended[2]
    assert isinstance(error, AttemptsFailed)
    assert error.envelope.kind is ErrorKind.INTERNAL_SERVER
    assert len(bench.stub.requests()) == 5, "one that they shared, and then one each"
