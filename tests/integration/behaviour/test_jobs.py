"""Jobs and their handles, idempotency keys and batches, in memory as on real parts."""

import pytest

from rustic_ai.llm_queue.resolver import (
    BadRequestError,
    BatchItem,
    BatchProgress,
    IdempotencyConflict,
    JobCancelled,
    JobNotFound,
    JobState,
    JobTimeout,
)
from support.callers.behaviour import Backend
from support.callers.llm import ask
from support.processes.wait import async_wait_until, wait_until
from support.providers.provider import Step

pytestmark = pytest.mark.leaves_keys(
    "nobody*", "llmq:queued:nobody:*", "llmq:deadlines", reason="jobs of a queue that no worker serves"
)
HELD = Step(text="at last", hold=True)


def texts(items: list[BatchItem]) -> list[str | None]:
    return [item.result().choices[0].message.content for item in items]


def test_a_job_is_followed_by_its_handle(backend: Backend) -> None:
    backend.script(HELD)
    llm = backend.llm()
    job = llm.submit(ask("Well?"))
    wait_until(lambda: job.status() is JobState.RUNNING, 10, "a worker to take it")
    with pytest.raises(TimeoutError, match="goes on"):
        job.result(timeout_s=0.05)
    backend.release()
    assert job.result().choices[0].message.content == "at last"
    assert llm.job(job.id).result().choices[0].message.content == "at last"
    assert llm.job(job.id.upper()).status() is JobState.ANSWERED
    assert not job.cancel()


async def test_a_handle_serves_event_loops(backend: Backend) -> None:
    backend.script(HELD)
    job = await backend.llm().async_submit(ask("Well?"))

    async def running() -> bool:
        return await job.async_status() is JobState.RUNNING

    await async_wait_until(running, 10, "a worker to take it")
    assert await job.async_cancel()
    with pytest.raises(JobCancelled, match="caller"):
        await job.async_result()


def test_a_running_job_is_cancelled(backend: Backend) -> None:
    backend.script(HELD)
    job = backend.llm().submit(ask("Well?"))
    wait_until(lambda: job.status() is JobState.RUNNING, 10, "a worker to take it")
    assert job.cancel()
    with pytest.raises(JobCancelled) as caught:
        job.result()
    assert (caught.value.status_code, caught.value.job_id) == (409, job.id)
    assert job.status() is JobState.CANCELLED
    assert not job.cancel(), "it has ended"


def test_a_waiting_job_is_cancelled(backend: Backend) -> None:
    job = backend.unattended().submit(ask("Well?"))
    assert job.status() is JobState.QUEUED
    assert job.cancel()
    assert job.status() is JobState.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()


def test_a_job_that_nobody_waits_for_expires(backend: Backend) -> None:
    job = backend.unattended(timeout=0.2).submit(ask("Well?"))
    wait_until(lambda: job.status() is JobState.EXPIRED, 15, "the job to expire")
    with pytest.raises(JobTimeout):
        job.result()
    assert not job.cancel()


def test_another_agents_job_is_not_found(backend: Backend) -> None:
    job = backend.unattended().submit(ask("Well?"))
    theirs = backend.llm("somebody else").job(job.id)
    for ask_for in (theirs.status, theirs.result, theirs.cancel):
        with pytest.raises(JobNotFound):
            ask_for()
    assert job.status() is JobState.QUEUED


def test_a_key_makes_a_repeated_submit_the_same_job(backend: Backend) -> None:
    backend.script(Step(text="once"))
    llm = backend.llm()
    first, second = (llm.submit(ask("Well?"), idempotency_key="order-1") for _ in range(2))
    assert first.id == second.id
    assert first.result().choices[0].message.content == "once"
    assert llm.submit(ask("Well?"), idempotency_key="order-1").id == first.id
    assert len(backend.asked()) == 1


def test_a_key_stands_for_one_request(backend: Backend) -> None:
    llm = backend.llm()
    first = llm.submit(ask("Well?"), idempotency_key="order-1")
    with pytest.raises(IdempotencyConflict) as caught:
        llm.submit(ask("Something else?"), idempotency_key="order-1")
    assert caught.value.status_code == 409
    with pytest.raises(IdempotencyConflict):
        llm.submit(ask("Well?"), "openai/gpt-4o", idempotency_key="order-1")
    first.result()
    assert len(backend.asked()) == 1


def test_a_key_is_one_agents_own(backend: Backend) -> None:
    one, other = backend.llm("one"), backend.llm("other")
    first = one.submit(ask("Well?"), idempotency_key="order-1")
    assert other.submit(ask("Well?"), idempotency_key="order-1").id != first.id


async def test_a_key_from_an_event_loop(backend: Backend) -> None:
    llm = backend.llm()
    first, second = [await llm.async_submit(ask("Well?"), idempotency_key="order-1") for _ in range(2)]
    assert first.id == second.id


def test_a_failed_job_stands_for_its_key_and_a_cancelled_one_does_not(backend: Backend) -> None:
    backend.script(Step(status=400))
    llm = backend.llm()
    failed = llm.submit(ask("Well?"), idempotency_key="fails")
    with pytest.raises(BadRequestError):
        failed.result()
    assert llm.submit(ask("Well?"), idempotency_key="fails").id == failed.id

    cancelled = backend.unattended().submit(ask("Well?"), idempotency_key="cancelled")
    assert cancelled.cancel()
    again = llm.submit(ask("Well?"), idempotency_key="cancelled")
    assert again.id != cancelled.id
    assert again.result()


def test_a_batch_reports_each_item_in_its_place(backend: Backend) -> None:
    backend.script(Step(text="one"), Step(status=400, message="not that"), Step(text="three"))
    told: list[BatchProgress] = []
    requests = [ask("1"), ask("2"), ask("3"), ask("4", timeout=0.0)]
    one, two, three, four = backend.llm().batch(requests, max_in_flight=1, on_progress=told.append)
    assert texts([one, three]) == ["one", "three"]
    assert isinstance(two.error, BadRequestError)
    assert four.error is not None
    assert (one.index, two.index, four.request) == (0, 1, requests[3])
    assert told[-1] == BatchProgress(done=4, failed=2, in_flight=0, total=4)


def test_a_batch_goes_on_where_it_stopped(backend: Backend) -> None:
    backend.script(Step(text="one"), Step(status=400), Step(text="two"))
    requests = [ask("1"), ask("2")]
    llm = backend.llm()
    first = list(llm.batch(requests, max_in_flight=1, idempotency_key="run"))
    assert [item.error is None for item in first] == [True, False]
    assert texts(list(llm.batch(requests, max_in_flight=1, idempotency_key="run"))) == ["one", "two"]
    assert len(backend.asked()) == 3, "what was answered is not asked again"
    other = list(llm.batch([ask("something else")], idempotency_key="run"))
    assert isinstance(other[0].error, IdempotencyConflict)


async def test_an_async_batch_yields_what_is_done_first(backend: Backend) -> None:
    backend.script(HELD)
    llm = backend.llm()
    batch = llm.async_batch([ask("held"), ask("free")], max_in_flight=2, as_completed=True)
    first = await anext(batch)
    assert first.response is not None
    backend.release()
    (second,) = [item async for item in batch]
    assert {first.index, second.index} == {0, 1}
    assert second.result().choices[0].message.content == "at last"


def test_leaving_a_batch_cancels_its_jobs(backend: Backend) -> None:
    backend.script(Step(text="one"), HELD)
    llm = backend.llm()
    batch = llm.batch([ask("1"), ask("2")], max_in_flight=1)
    answered = next(batch).result()
    batch.close()
    assert answered.job_id is not None
    assert llm.job(answered.job_id).status() is JobState.ANSWERED
