"""`QueueLLM` and `JobHandle`, over a queue in memory."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from rustic_ai.llm_queue.resolver import (
    ErrorKind,
    IdempotencyConflict,
    InternalServerError,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    JobState,
    JobTimeout,
    QueueChatCompletionRequest,
    QueueLLM,
    QueueUnavailable,
    RateLimitError,
    ResponseProcessingError,
)
from rustic_ai.llm_queue.resolver.client.errors import QueueGone
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.tasks.outcome import Account, Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from support.processes.wait import async_wait_until, wait_until

MakeLLM = Callable[..., QueueLLM]
HI = ChatCompletionRequest(messages=[UserMessage(content="Hi")])
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def text_of(response: Any) -> str | None:
    text: str | None = response.choices[0].message.content
    return text


def test_a_completion_is_answered(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris", cost_usd=0.5)
    response = make_llm().completion(HI)
    assert (text_of(response), response.cost_usd) == ("Paris", 0.5)
    assert response.job_id == queue.jobs[0].id
    assert response.input_messages == HI.messages


async def test_an_async_completion_is_answered(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris")
    assert text_of(await make_llm().async_completion(HI, "gpt-4o")) == "Paris"
    assert queue.calls[0].model == "gpt-4o"


def test_threads_and_event_loops_share_one_llm(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    for _ in range(10):
        queue.answer("Paris")
    llm, answers = make_llm(), []

    def in_a_thread() -> None:
        answers.append(text_of(llm.completion(HI)))

    def in_a_loop_of_its_own() -> None:
        answers.append(text_of(asyncio.run(llm.async_completion(HI))))

    threads = [threading.Thread(target=each) for each in [in_a_thread, in_a_loop_of_its_own] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert answers == ["Paris"] * 10


def test_an_error_is_raised_and_nothing_is_left_waiting(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.fail(ErrorKind.RATE_LIMIT, "slow down", provider_status=429, retry_after_s=7)
    with pytest.raises(RateLimitError) as caught:
        make_llm().completion(HI)
    assert caught.value.retry_after_s == 7
    assert queue.cancelled == []


def test_past_the_timeout_the_job_is_cancelled(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.hang()
    with pytest.raises(JobTimeout, match=r"0\.1 s: no worker took it from queue 'llm'") as caught:
        make_llm(timeout=0.1).completion(HI)
    assert caught.value.job_id == queue.jobs[0].id
    wait_until(lambda: queue.cancelled == [queue.jobs[0].id])


async def test_a_caller_that_goes_away_takes_its_job_along(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.hang()
    waiting = asyncio.create_task(make_llm().async_completion(HI))
    await async_wait_until(lambda: queue.jobs)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await async_wait_until(lambda: queue.cancelled == [queue.jobs[0].id])


def test_a_bad_request_is_refused_and_nothing_is_queued(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    empty = HI.model_copy(update={"messages": []})
    for ask in (make_llm().completion, make_llm().submit):
        with pytest.raises(InvalidRequest, match="messages"):
            ask(empty)
    assert queue.jobs == []


async def test_a_bad_request_is_refused_to_async_callers(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    for ask in (make_llm().async_completion, make_llm().async_submit):
        with pytest.raises(InvalidRequest, match="timeout"):
            await ask(HI.model_copy(update={"timeout": 0.0}))
    assert queue.jobs == []


def test_an_answer_that_is_none_is_an_error(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.reply(lambda call: Answered(account=Account(), model="gpt-4", response={"id": "x", "choices": []}))
    with pytest.raises(ResponseProcessingError, match="created"):
        make_llm().completion(HI)


def test_the_job_says_what_the_properties_say(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris")
    own = {"queue": "batch", "priority": 6, "on_worker_loss": "fail", "timeout": 2.5}
    make_llm("agent-7", **own).completion(HI)
    [job] = queue.jobs
    assert (job.queue, job.priority, job.on_worker_loss) == ("batch", 6, "fail")
    assert (job.timeout_ms, str(job.owner), job.model) == (2500, "org/guild/agent-7", "gpt-4")


def test_a_request_says_how_urgent_it_is_and_others_are_normal(
    queue: InMemoryQueue, make_llm: MakeLLM
) -> None:
    for _ in range(4):
        queue.answer("Paris")
    urgent = QueueChatCompletionRequest(messages=HI.messages, priority="interactive")
    make_llm().completion(HI)
    make_llm().completion(urgent)
    make_llm(priority="batch").completion(HI)
    make_llm(priority="batch").completion(urgent)
    assert [job.priority for job in queue.jobs] == [3, 0, 9, 0]
    assert "priority" not in queue.calls[1].params, "no provider's business"


def test_a_submitted_job_is_followed_by_its_handle(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris")
    handle = make_llm().submit(HI)
    assert handle.id == queue.jobs[0].id
    assert handle.status() is JobState.ANSWERED
    assert text_of(handle.result()) == text_of(handle.result()) == "Paris"
    assert not handle.cancel()


async def test_a_handle_serves_event_loops(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris").hang()
    llm = make_llm()
    done, waiting = await llm.async_submit(HI), await llm.async_submit(HI)
    assert text_of(await done.async_result()) == "Paris"
    assert await waiting.async_status() is JobState.QUEUED
    assert await waiting.async_cancel()
    with pytest.raises(JobCancelled, match="caller"):
        await waiting.async_result()


def test_waiting_for_a_result_can_be_bounded_and_taken_up_again(
    queue: InMemoryQueue, make_llm: MakeLLM
) -> None:
    queue.hang()
    handle = make_llm().submit(HI)
    with pytest.raises(TimeoutError, match="goes on"):
        handle.result(timeout_s=0.05)
    assert handle.status() is JobState.QUEUED
    assert queue.cancelled == []


def test_a_result_is_awaited_no_longer_than_the_jobs_own_timeout(
    queue: InMemoryQueue, make_llm: MakeLLM
) -> None:
    queue.hang().hang()
    llm = make_llm(timeout=0.2)
    with pytest.raises(JobTimeout):
        llm.submit(HI).result(timeout_s=60)
    elsewhere = llm.job(llm.submit(HI).id)
    with pytest.raises(JobTimeout):
        elsewhere.result()


def test_a_job_is_found_again_by_its_id(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris")
    job_id = make_llm().submit(HI).id
    assert text_of(make_llm().job(job_id).result()) == "Paris"
    assert text_of(make_llm().job(job_id.upper()).result()) == "Paris"


def test_another_agents_job_is_not_found(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.hang()
    theirs = make_llm("b").job(make_llm("a").submit(HI).id)
    for ask in (theirs.status, theirs.result, theirs.cancel):
        with pytest.raises(JobNotFound):
            ask()
    assert queue.cancelled == []


@pytest.mark.parametrize("job_id", ["", "nonsense", None, 7])
def test_what_is_no_job_id_is_refused(make_llm: MakeLLM, job_id: Any) -> None:
    with pytest.raises(ValueError, match="UUID"):
        make_llm().job(job_id)


def test_a_repeated_submit_is_the_same_job(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.answer("Paris")
    llm = make_llm()
    first, second = (llm.submit(HI, idempotency_key="order-1") for _ in range(2))
    assert first.id == second.id
    assert len(queue.jobs) == 1
    with pytest.raises(IdempotencyConflict, match="another request"):
        llm.submit(HI, "gpt-4o", idempotency_key="order-1")


@pytest.mark.parametrize("key", ["", 7])
def test_an_idempotency_key_that_is_none_is_refused(
    queue: InMemoryQueue, make_llm: MakeLLM, key: Any
) -> None:
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        make_llm().submit(HI, idempotency_key=key)
    assert queue.jobs == []


def test_a_repeated_submit_does_not_shorten_the_first(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    queue.hang()
    llm, hasty = make_llm(), HI.model_copy(update={"timeout": 0.01})
    llm.submit(HI, idempotency_key="order-1")
    again = llm.submit(hasty, idempotency_key="order-1")
    with pytest.raises(TimeoutError, match="goes on"):
        again.result(timeout_s=0.1)


def test_a_result_that_is_no_longer_kept_is_not_waited_for(
    queue: InMemoryQueue, make_llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(job_id: str, owner: Owner) -> None:
        return None

    queue.answer("Paris")
    handle = make_llm().submit(HI)
    monkeypatch.setattr(queue.engine, "stored_outcome", nothing)
    with pytest.raises(JobNotFound, match="no longer kept"):
        handle.result()


def test_an_answer_is_held_against_its_schema_when_that_is_asked_for(
    queue: InMemoryQueue, make_llm: MakeLLM
) -> None:
    llm = make_llm(enable_json_schema_validation=True)
    prompt = HI.model_copy(update={"response_format": SCHEMA})
    queue.answer('{"n": 1}').answer('{"n": "canary"}').answer("canary")
    assert text_of(llm.completion(prompt)) == '{"n": 1}'
    for expected in (r"\$.n", "not JSON"):
        with pytest.raises(ResponseProcessingError, match=expected) as caught:
            llm.completion(prompt)
        assert "canary" not in str(caught.value)


def test_a_queue_that_is_away_is_said_to_be(
    queue: InMemoryQueue, make_llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*args: Any, **kwargs: Any) -> Any:
        raise QueueGone("Redis did not answer")

    queue.hang()
    handle = make_llm().submit(HI)
    for name in ("submit", "record", "cancel"):
        monkeypatch.setattr(queue.engine, name, gone)
    for ask in (lambda: make_llm().completion(HI), handle.status, handle.result, handle.cancel):
        with pytest.raises(QueueUnavailable, match="Redis did not answer"):
            ask()


def test_a_deadline_that_passes_while_redis_is_away_says_both(
    queue: InMemoryQueue, make_llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*args: Any, **kwargs: Any) -> Any:
        raise QueueGone("Redis did not answer")

    queue.hang()
    monkeypatch.setattr(queue.engine, "record", gone)
    with pytest.raises(JobTimeout, match="Redis does not answer"):
        make_llm(timeout=0.1).completion(HI)


def test_the_script_runs_out(queue: InMemoryQueue, make_llm: MakeLLM) -> None:
    with pytest.raises(InternalServerError, match="no answer left"):
        make_llm().completion(HI)


def test_an_answer_for_every_call_that_has_none(make_llm: MakeLLM) -> None:
    with InMemoryQueue(otherwise="Hm.") as queue:
        queue.answer("Paris")
        assert [text_of(make_llm().completion(HI)) for _ in range(3)] == ["Paris", "Hm.", "Hm."]


def test_a_queue_in_memory_serves_only_while_it_is_entered() -> None:
    with pytest.raises(RuntimeError, match="with"):
        InMemoryQueue().engine.call(lambda: asyncio.sleep(0))
