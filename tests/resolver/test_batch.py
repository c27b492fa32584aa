"""Many requests through the queue: order, bounds, partial failures, and going on where one stopped."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from rustic_ai.llm_queue.resolver import BatchItem, BatchProgress, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.exceptions import (
    IdempotencyConflict,
    InvalidRequest,
    RateLimitError,
)
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from support.callers.llm import ask
from support.processes.wait import wait_until


@pytest.fixture
def queue() -> Iterator[InMemoryQueue]:
    with InMemoryQueue(otherwise="hi") as queue:
        yield queue


@pytest.fixture
def llm() -> QueueLLM:
    return QueueLLMResolver(model="gpt-4").resolve("acme", "support", "helper")


def numbered(count: int) -> list[ChatCompletionRequest]:
    return [ask(f"number {number}") for number in range(count)]


def texts(items: list[BatchItem]) -> list[str | None]:
    return [item.result().choices[0].message.content for item in items]


def test_results_come_in_the_order_of_the_requests(queue: InMemoryQueue, llm: QueueLLM) -> None:
    for number in range(20):
        queue.answer(f"answer {number}")
    items = list(llm.batch(numbered(20), max_in_flight=1))
    assert texts(items) == [f"answer {number}" for number in range(20)]
    assert [item.index for item in items] == list(range(20))


def test_a_failed_item_is_reported_and_the_others_go_on(queue: InMemoryQueue, llm: QueueLLM) -> None:
    queue.answer("one").fail(ErrorKind.RATE_LIMIT, "slow down").answer("three")
    requests: list[Any] = [ask("a"), ask("b"), ask("c"), "not a request"]
    one, two, three, four = llm.batch(requests, max_in_flight=1)
    assert texts([one, three]) == ["one", "three"]
    assert isinstance(two.error, RateLimitError)
    assert isinstance(four.error, InvalidRequest)
    with pytest.raises(RateLimitError):
        two.result()


def test_no_more_are_in_flight_than_allowed_and_requests_are_made_as_there_is_room(
    queue: InMemoryQueue, llm: QueueLLM
) -> None:
    for _ in range(3):
        queue.hang()
    made: list[int] = []

    def requests() -> Iterator[ChatCompletionRequest]:
        for number in range(100):
            made.append(number)
            yield ask(str(number))

    items = llm.batch(requests(), max_in_flight=3)
    taking = threading.Thread(target=next, args=(items, None))
    taking.start()
    wait_until(lambda: len(queue.jobs) == 3, 5)
    assert made == [0, 1, 2]
    llm.job(queue.jobs[0].id).cancel()
    taking.join(5)
    items.close()
    assert set(queue.cancelled) == {job.id for job in queue.jobs}, "nobody waits for them any more"


async def test_async_batches_take_async_requests_and_yield_what_is_done_first(
    queue: InMemoryQueue, llm: QueueLLM
) -> None:
    queue.hang().answer("second").answer("third")

    async def requests() -> AsyncIterator[ChatCompletionRequest]:
        for request in numbered(3):
            await asyncio.sleep(0)
            yield request

    batch = llm.async_batch(requests(), max_in_flight=3, as_completed=True)
    first, second = [await anext(batch), await anext(batch)]
    assert {first.index, second.index} == {1, 2}
    llm.job(queue.jobs[0].id).cancel()
    (last,) = [item async for item in batch]
    assert last.index == 0
    assert last.error is not None


def test_progress_is_told(queue: InMemoryQueue, llm: QueueLLM) -> None:
    queue.fail(ErrorKind.BAD_REQUEST, "no")
    told: list[BatchProgress] = []
    list(llm.batch(numbered(3), max_in_flight=1, on_progress=told.append))
    assert told == [BatchProgress(1, 1, 0, 3), BatchProgress(2, 1, 0, 3), BatchProgress(3, 1, 0, 3)]


def test_a_batch_goes_on_where_it_stopped(queue: InMemoryQueue, llm: QueueLLM) -> None:
    queue.answer("0").fail(ErrorKind.RATE_LIMIT, "slow down").hang()
    first = llm.batch(numbered(4), max_in_flight=1, idempotency_key="run")
    assert texts([next(first)]) == ["0"]
    assert isinstance(next(first).error, RateLimitError)
    left = threading.Thread(target=lambda: next(first, None))
    left.start()
    wait_until(lambda: len(queue.jobs) == 3, 5)
    # Stopped here, with one that is under way: it is not cancelled.
    again = llm.batch(numbered(4), max_in_flight=4, idempotency_key="run")
    items: list[BatchItem] = []
    taking = threading.Thread(target=lambda: items.extend(again))
    taking.start()
    wait_until(lambda: len(queue.calls) == 5, 5)
    assert queue.cancelled == []
    llm.job(queue.jobs[2].id).cancel()
    taking.join(5)
    left.join(5)
    first.close()
    assert texts(items) == ["0", "hi", "hi", "hi"]
    asked = [call.params["messages"][-1]["content"] for call in queue.calls]
    assert [asked.count(f"number {number}") for number in range(4)] == [1, 2, 2, 1], "none more than needed"


def test_a_key_with_another_request_is_that_items_error(queue: InMemoryQueue, llm: QueueLLM) -> None:
    list(llm.batch(numbered(2), idempotency_key=lambda index, _: f"key {index}"))
    one, two = llm.batch([ask("number 0"), ask("another")], idempotency_key=lambda index, _: f"key {index}")
    assert one.response is not None
    assert isinstance(two.error, IdempotencyConflict)


def test_a_batch_needs_room_for_one(llm: QueueLLM) -> None:
    with pytest.raises(ValueError, match="max_in_flight"):
        llm.batch([], max_in_flight=0)
    with InMemoryQueue():
        assert list(llm.batch([])) == []
