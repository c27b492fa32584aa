"""Awaiting from synchronous code below an event loop."""

import asyncio
from contextvars import ContextVar

import pytest

from rustic_ai.llm_queue.worker.pool.bridge import in_greenlet, run_in_greenlet, wait_for

_color: ContextVar[str] = ContextVar("color", default="none")


async def _later[T](value: T) -> T:
    await asyncio.sleep(0)
    return value


async def test_the_value_comes_back() -> None:
    def add(first: int, *, second: int) -> int:
        return wait_for(_later(first)) + wait_for(_later(second))

    assert await run_in_greenlet(add, 1, second=2) == 3


async def test_a_function_that_awaits_nothing() -> None:
    assert await run_in_greenlet(lambda: "at once") == "at once"


async def test_an_exception_of_the_awaitable_is_raised_where_it_is_awaited() -> None:
    async def fail() -> None:
        raise LookupError("inside")

    def caught() -> str:
        try:
            wait_for(fail())
        except LookupError as error:
            return f"caught {error}"
        return "not raised"

    assert await run_in_greenlet(caught) == "caught inside"


async def test_an_exception_of_the_function_reaches_the_caller() -> None:
    def fail() -> None:
        wait_for(_later(None))
        raise LookupError("outside")

    with pytest.raises(LookupError, match="outside"):
        await run_in_greenlet(fail)


async def test_a_cancellation_is_raised_where_it_is_awaited_and_may_be_answered_with_an_await() -> None:
    waiting = asyncio.Event()
    steps: list[str] = []

    async def forever() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("awaitable closed")

    def settle() -> None:
        try:
            wait_for(forever())
        except asyncio.CancelledError:
            steps.append(wait_for(_later("settled")))
            raise

    task = asyncio.create_task(run_in_greenlet(settle))
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["awaitable closed", "settled"]


async def test_both_sides_share_one_context() -> None:
    async def read_and_set() -> str:
        before = _color.get()
        _color.set("set by the awaitable")
        return before

    def outer() -> tuple[str, str]:
        _color.set("set by the function")
        return wait_for(read_and_set()), _color.get()

    _color.set("set by the caller")
    assert await run_in_greenlet(outer) == ("set by the function", "set by the awaitable")
    assert _color.get() == "set by the awaitable"


async def test_tasks_side_by_side_keep_their_contexts_apart() -> None:
    def work(name: str) -> list[str]:
        _color.set(name)
        seen = []
        for _ in range(5):
            wait_for(asyncio.sleep(0))
            seen.append(_color.get())
        return seen

    async def one(name: str) -> list[str]:
        return await run_in_greenlet(work, name)

    names = [f"task {number}" for number in range(20)]
    assert await asyncio.gather(*map(one, names)) == [[name] * 5 for name in names]


async def test_a_bridge_inside_a_bridge() -> None:
    def inner() -> int:
        return wait_for(_later(1)) + 1

    def outer() -> int:
        return wait_for(run_in_greenlet(inner)) + 1

    assert await run_in_greenlet(outer) == 3


async def test_outside_of_a_bridge_the_error_says_so_and_nothing_is_left_unawaited() -> None:
    assert not in_greenlet()
    with pytest.raises(RuntimeError, match="run_in_greenlet"):
        wait_for(_later(1))


async def test_in_an_awaited_coroutine_the_error_says_so() -> None:
    async def too_deep() -> None:
        wait_for(_later(1))

    with pytest.raises(RuntimeError, match="run_in_greenlet"):
        await run_in_greenlet(lambda: wait_for(too_deep()))


async def test_a_thousand_wait_at_once() -> None:
    gate = asyncio.Event()

    def work(number: int) -> int:
        wait_for(gate.wait())
        return number

    tasks = [asyncio.create_task(run_in_greenlet(work, number)) for number in range(1000)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == list(range(1000))
