"""The loop of attempts: retries, fallbacks, deadlines, cancels, and what it leaves on record."""

import asyncio
from collections.abc import Sequence

import pytest

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.worker.attempts.answer import AttemptsFailed, DeadlinePassed
from rustic_ai.llm_queue.worker.attempts.log import AttemptLog
from support.processes.wait import async_wait_until
from support.providers.provider import Step
from support.workers.attempt_kit import MODELS, Bench, NotedJournal, NotedSink, Parked, content, kinds


@pytest.mark.parametrize("name", MODELS)
async def test_one_post_where_nothing_fails(bench: Bench, name: str) -> None:
    answer = await bench.run("hello #ok", MODELS[name])
    (request,) = bench.stub.requests("ok")
    assert request.provider == name
    assert content(answer) == request.text
    assert answer.model == MODELS[name]
    assert answer.usage.prompt_tokens
    assert answer.usage.completion_tokens
    assert [(one.number, one.status) for one in answer.attempts] == [(1, "ok")]


async def test_a_rate_limit_is_waited_out(bench: Bench) -> None:
    bench.stub.plan("rl", Step(status=429, retry_after_s=0.4))
    answer = await bench.run("hello #rl")
    first, second = bench.stub.requests("rl")
    assert first.ended_at is not None
    assert second.received_at - first.ended_at >= 0.4
    assert [(one.error, one.provider_status) for one in answer.attempts] == [
        (ErrorKind.RATE_LIMIT, 429),
        (None, None),
    ]
    assert answer.attempts[0].backoff_s is not None
    bench.stub.assert_clean()


async def test_a_provider_that_is_down_is_asked_as_often_as_allowed(bench: Bench) -> None:
    bench.stub.plan("down", Step(status=503, times=None))
    journal = NotedJournal(bench.stub)
    log = AttemptLog(epoch=1, begun=1)
    with pytest.raises(AttemptsFailed) as failed:
        await bench.run("hello #down", log=log, journal=journal, max_retries=3)
    assert len(bench.stub.requests("down")) == 4
    assert failed.value.envelope.kind is ErrorKind.INTERNAL_SERVER
    assert failed.value.envelope.provider_status == 503
    assert failed.value.attempts == log.records
    assert [one.backoff_s is None for one in log.records] == [False, False, False, True]
    bench.stub.assert_clean()


async def test_every_attempt_is_on_record_before_its_post(bench: Bench) -> None:
    bench.stub.plan("rec", Step(status=500), Step(status=500))
    journal = NotedJournal(bench.stub)
    await bench.run("hello #rec", journal=journal)
    assert journal.begun == [2, 3]
    assert journal.seen == [1, 2]
    assert [len(ended) for ended in journal.ended] == [1, 2]


async def test_a_model_that_is_refused_is_not_called_and_the_next_one_is(bench: Bench) -> None:
    full = ErrorEnvelope(kind=ErrorKind.RATE_LIMIT, message="full")
    journal = NotedJournal(closed={MODELS["openai"]: full})
    answer = await bench.run("hello #full", MODELS["openai"], MODELS["anthropic"], journal=journal)
    assert (answer.model, kinds(answer)) == (MODELS["anthropic"], ["ok"])
    assert [one.provider for one in bench.stub.requests("full")] == ["anthropic"]
    assert journal.asked == [MODELS["openai"], MODELS["anthropic"]]


async def test_the_last_models_refusal_is_the_jobs_failure(bench: Bench) -> None:
    full = ErrorEnvelope(kind=ErrorKind.RATE_LIMIT, message="full")
    journal = NotedJournal(closed={MODELS["openai"]: full})
    assert await bench.failure("hello #none", journal=journal) == full
    assert not bench.stub.requests("none")


async def test_each_try_asks_to_be_let_through(bench: Bench) -> None:
    bench.stub.plan("again", Step(status=500))
    journal = NotedJournal()
    await bench.run("hello #again", journal=journal)
    assert journal.asked == [MODELS["openai"]] * 2


async def test_a_lost_lease_ends_the_attempts(bench: Bench) -> None:
    bench.stub.plan("lost", Step(status=500, times=None))
    lost = RuntimeError("lease lost")
    with pytest.raises(RuntimeError, match="lease lost"):
        await bench.run("hello #lost", journal=NotedJournal(refuse=lost))
    assert len(bench.stub.requests("lost")) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_cannot_succeed_is_not_tried_again(bench: Bench, status: int, streamed: bool) -> None:
    bench.stub.plan("no", Step(status=status, times=None))
    envelope = await bench.failure("hello #no", sink=NotedSink() if streamed else None)
    assert envelope.provider_status == status
    assert len(bench.stub.requests("no")) == 1
    bench.stub.assert_clean()


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_the_next_model_answers_when_the_first_cannot(bench: Bench, status: int) -> None:
    bench.stub.plan("fb", Step(status=status, times=None), provider="openai")
    answer = await bench.run(
        "hello #fb", MODELS["openai"], MODELS["anthropic"], MODELS["gemini"], max_retries=1
    )
    assert answer.model == MODELS["anthropic"]
    by = [one.provider for one in bench.stub.requests("fb")]
    assert by == ["openai"] * (2 if status in (429, 500, 503) else 1) + ["anthropic"]


async def test_a_prompt_too_long_goes_straight_to_the_next_model(bench: Bench) -> None:
    step = Step(
        status=400,
        code="context_length_exceeded",
        message="This model's maximum context length is 8192 tokens. Please reduce the length.",
        times=None,
    )
    bench.stub.plan("long", step, model="gpt-4o")
    answer = await bench.run("hello #long", "openai/gpt-4o", "openai/gpt-4o-mini")
    assert kinds(answer) == ["context_window", "ok"]


async def test_the_last_models_error_is_the_jobs(bench: Bench) -> None:
    bench.stub.plan("all", Step(status=500, times=None), provider="openai")
    bench.stub.plan("all", Step(status=401, times=None), provider="anthropic")
    envelope = await bench.failure("hello #all", MODELS["openai"], MODELS["anthropic"], max_retries=0)
    assert (envelope.kind, envelope.model, envelope.provider) == (
        ErrorKind.AUTHENTICATION,
        MODELS["anthropic"],
        "anthropic",
    )


async def test_a_wait_past_the_deadline_goes_to_the_next_model_at_once(bench: Bench) -> None:
    bench.stub.plan("far", Step(status=429, retry_after_s=60, times=None), provider="openai")
    answer = await bench.run("hello #far", MODELS["openai"], MODELS["cohere"], timeout_s=20)
    assert kinds(answer) == ["rate_limit", "ok"]


async def test_a_wait_past_the_deadline_without_another_model_fails_with_the_rate_limit(bench: Bench) -> None:
    bench.stub.plan("far2", Step(status=429, retry_after_s=60, times=None))
    envelope = await bench.failure("hello #far2", timeout_s=20)
    assert (envelope.kind, envelope.retry_after_s) == (ErrorKind.RATE_LIMIT, 60)
    assert len(bench.stub.requests("far2")) == 1


async def test_no_call_is_made_that_redis_put_on_record_after_the_deadline(bench: Bench) -> None:
    class SlowJournal(NotedJournal):
        async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
            await asyncio.sleep(1.1)  # the fault itself: Redis is away until past the deadline

    bench.stub.plan("late", Step(status=500))
    with pytest.raises(DeadlinePassed):
        await bench.run("hello #late", journal=SlowJournal(), timeout_s=1.0)
    assert len(bench.stub.requests("late")) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", MODELS)
async def test_the_deadline_ends_a_call_and_closes_its_connection(
    bench: Bench, name: str, streamed: bool
) -> None:
    bench.stub.plan("slow", Step(hold=True, times=None))
    # A process's first call at a provider loads its parts of LiteLLM.
    await bench.run("hello #first", MODELS[name], sink=NotedSink() if streamed else None)
    log = AttemptLog(epoch=1, begun=1)
    with pytest.raises(DeadlinePassed):
        await bench.run(
            "hello #slow", MODELS[name], log=log, sink=NotedSink() if streamed else None, timeout_s=0.5
        )
    assert [(one.status, one.error) for one in log.records] == [("failed", ErrorKind.TIMEOUT)]
    assert not log.call_under_way
    await _closed(bench, "slow")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", MODELS)
async def test_a_cancel_closes_the_connection_and_stays_on_record(
    bench: Bench, name: str, streamed: bool
) -> None:
    step = Step(words=50, chunk_delay_s=0.2, times=None) if streamed else Step(hold=True, times=None)
    bench.stub.plan("cancel", step)
    log, sink = AttemptLog(epoch=3, begun=5), NotedSink()
    job = asyncio.create_task(
        bench.run("hello #cancel", MODELS[name], log=log, sink=sink if streamed else None)
    )
    if streamed:
        await asyncio.wait_for(sink.first.wait(), 10)
    else:
        await async_wait_until(lambda: bench.stub.open_calls, 10)
    assert log.call_under_way
    assert not streamed or (log.partial is not None and log.partial.text_bytes > 0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    last = log.records[-1]
    assert (last.number, last.epoch, last.model, last.status) == (5, 3, MODELS[name], "cancelled")
    assert not log.call_under_way
    await _closed(bench, "cancel")


async def _closed(bench: Bench, tag: str) -> None:
    """Wait until the provider has seen its client hang up."""
    await async_wait_until(
        lambda: [one.client_closed for one in bench.stub.requests(tag)] == [True],
        5,
        "the connection to be closed",
    )


async def test_a_cancel_between_attempts_cuts_no_call_short(bench: Bench) -> None:
    bench.stub.plan("pause", Step(status=429, retry_after_s=0.9, times=None))
    log = AttemptLog(epoch=1, begun=1)
    job = asyncio.create_task(bench.run("hello #pause", log=log))
    await async_wait_until(lambda: log.records, 10)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert [one.status for one in log.records] == ["failed"]
    assert log.abandon() == (1, False)


async def test_a_long_pause_is_left_to_the_ledger(bench: Bench) -> None:
    bench.stub.plan("pause", Step(status=429, retry_after_s=20, times=None))
    journal, log = NotedJournal(), AttemptLog(epoch=1, begun=1)
    with pytest.raises(Parked):
        await bench.run("hello #pause", log=log, journal=journal)
    (pause_s,) = journal.pauses
    assert 20 <= pause_s <= 22
    assert [one.kind for one in journal.refusals] == [ErrorKind.RATE_LIMIT]
    assert log.abandon() == (1, False), "the next call has not begun"


def _failed(number: int, model: str, error: ErrorKind = ErrorKind.INTERNAL_SERVER) -> AttemptRecord:
    return AttemptRecord(number=number, epoch=1, model=model, status="failed", error=error)


async def test_a_rerun_goes_on_where_the_lost_worker_was(bench: Bench) -> None:
    primary, fallback = MODELS["openai"], MODELS["anthropic"]
    # Two tries of the primary were used up, and the worker died while it asked the fallback.
    ended = (_failed(1, primary), _failed(2, primary))
    log = AttemptLog(epoch=2, begun=4, ended=ended)
    answer = await bench.run("hello #rerun", primary, fallback, log=log, max_retries=1)
    assert [(one.number, one.model, one.status) for one in answer.attempts] == [
        (1, primary, "failed"),
        (2, primary, "failed"),
        (3, fallback, "lost"),
        (4, fallback, "ok"),
    ]
    assert [one.provider for one in bench.stub.requests("rerun")] == ["anthropic"]


async def test_a_lost_worker_uses_up_no_try(bench: Bench) -> None:
    bench.stub.plan("tries", Step(status=500), Step(status=500))
    log = AttemptLog(epoch=3, begun=3)
    answer = await bench.run("hello #tries", log=log, max_retries=2)
    assert [one.status for one in answer.attempts] == ["lost", "lost", "failed", "failed", "ok"]


async def test_tries_before_the_loss_count(bench: Bench) -> None:
    bench.stub.plan("count", Step(status=500, times=None))
    log = AttemptLog(epoch=2, begun=3, ended=(_failed(1, MODELS["openai"]),))
    with pytest.raises(AttemptsFailed):
        await bench.run("hello #count", log=log, max_retries=2)
    assert len(bench.stub.requests("count")) == 2


async def test_nothing_is_left_to_try_after_a_rerun(bench: Bench) -> None:
    log = AttemptLog(epoch=2, begun=2, ended=(_failed(1, MODELS["openai"], ErrorKind.AUTHENTICATION),))
    envelope = await bench.failure("hello #over", log=log)
    assert envelope.kind is ErrorKind.AUTHENTICATION
    assert bench.stub.requests("over") == []


async def test_a_forbidden_parameter_fails_before_any_call(bench: Bench) -> None:
    envelope = await bench.failure("hello #bad", api_base="http://127.0.0.1:1")
    assert envelope.kind is ErrorKind.BAD_REQUEST
    assert "api_base" in envelope.message
    assert bench.stub.requests() == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_mock_response_needs_no_provider(bench: Bench, streamed: bool) -> None:
    sink = NotedSink()
    answer = await bench.run("hello #mock", mock_response="as you wish", sink=sink if streamed else None)
    assert content(answer) == "as you wish"
    assert sink.text() == ("as you wish" if streamed else "")
    assert bench.stub.requests() == []


async def test_texts_of_results_and_failures_tell_nothing(bench: Bench) -> None:
    answer = await bench.run("hello #quiet")
    assert content(answer) not in repr(answer)
    bench.stub.plan("quiet2", Step(status=400, message="you asked: hello", times=None))
    with pytest.raises(AttemptsFailed) as failed:
        await bench.run("hello #quiet2")
    assert "hello" not in f"{failed.value!r} {failed.value}"
