"""Calls that cross from a caller's event loop to the background loop, and their answers back."""

import asyncio
import contextvars
import itertools
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError as FutureCancelled
from functools import partial
from types import FrameType

import pytest

from rustic_ai.llm_queue.resolver.client.background.loop import BackgroundLoop
from rustic_ai.llm_queue.resolver.client.background.thread_call import ThreadCall

NAME = contextvars.ContextVar("NAME", default="nobody's")


@pytest.fixture
def there() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop("there")
    yield loop
    loop.stop()


def test_every_caller_gets_its_own_answer(there: BackgroundLoop) -> None:
    async def echo(number: int) -> int:
        await asyncio.sleep(number % 3 / 1000)
        return number

    async def ask_all(first: int) -> list[int]:
        return await asyncio.gather(*(there.acall(partial(echo, n)) for n in range(first, first + 500)))

    answers: dict[int, list[int]] = {}

    def a_callers_thread(first: int) -> None:
        for turn in range(2):  # each time on an event loop of its own
            answers[first + turn * 500] = asyncio.run(ask_all(first + turn * 500))

    threads = [threading.Thread(target=a_callers_thread, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {first: list(range(first, first + 500)) for first in range(0, 3000, 500)}


async def test_an_error_crosses(there: BackgroundLoop) -> None:
    async def fail() -> None:
        raise LookupError("over there")

    with pytest.raises(LookupError, match="over there"):
        await there.acall(fail)


@pytest.mark.parametrize("begun", [False, True])
async def test_cancelling_the_caller_cancels_what_it_called(there: BackgroundLoop, begun: bool) -> None:
    ended, running = threading.Event(), threading.Event()
    hold = threading.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def hold_up() -> None:
        hold.wait(10)

    if not begun:
        asyncio.run_coroutine_threadsafe(hold_up(), there._loop)
    caller = asyncio.create_task(there.acall(work))
    await asyncio.sleep(0)
    if begun:
        assert await asyncio.to_thread(running.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    hold.set()
    await there.acall(lambda: asyncio.sleep(0))
    assert running.is_set() is begun
    assert ended.is_set() is begun


def interrupted(there: BackgroundLoop, work: Callable[[], Awaitable[None]], *, moment: int) -> bool:
    """Call `work` with a Ctrl-C at this moment: whether it came before the caller waited."""
    passed = -1

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal passed
        # Where Python looks for signals: as a function begins, and after a built-in one.
        if passed >= 0 or frame.f_code is BackgroundLoop.call.__code__:
            passed += event in ("call", "c_return")
        called = event == "c_call" and frame.f_code is ThreadCall.result.__code__
        waits = called and getattr(arg, "__name__", "") == "acquire"
        if waits or passed > moment:
            sys.setprofile(None)
            # What was handed to the loop until now has begun.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), there._loop).result(10)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        with pytest.raises(KeyboardInterrupt):
            there.call(work)
    finally:
        sys.setprofile(None)
    return passed > moment


def test_a_ctrl_c_at_any_moment_takes_along_what_was_called(there: BackgroundLoop) -> None:
    begun: list[int] = []
    left: set[int] = set()

    async def work(moment: int) -> None:
        begun.append(moment)
        left.add(moment)
        try:
            await asyncio.sleep(60)
        finally:
            left.remove(moment)

    async def turn() -> None:
        await asyncio.sleep(0)

    for moment in itertools.count():
        in_time = interrupted(there, partial(work, moment), moment=moment)
        for _ in range(3):
            there.call(turn)
        assert not left, f"it runs on: the Ctrl-C came at step {moment}"
        if not in_time:
            break
    assert begun, "some came after it was handed over"
    assert len(begun) < moment, "and some before"


async def test_what_is_called_runs_in_its_callers_context(there: BackgroundLoop) -> None:
    async def name() -> str:
        return NAME.get()

    async def ask_as(text: str) -> str:
        NAME.set(text)
        return await there.acall(name)

    texts = [f"caller {number}" for number in range(20)]
    assert await asyncio.gather(*map(ask_as, texts)) == texts


async def test_callers_end_with_the_loop(there: BackgroundLoop) -> None:
    calls = [asyncio.create_task(there.acall(lambda: asyncio.sleep(60))) for _ in range(3)]
    await there.acall(lambda: asyncio.sleep(0))
    await asyncio.to_thread(there.stop)
    for call in calls:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 10)
    with pytest.raises(RuntimeError):
        await there.acall(lambda: asyncio.sleep(0))


def test_an_answer_to_a_closed_loop_is_nobodys(there: BackgroundLoop) -> None:
    hold = threading.Event()

    async def work() -> None:
        await asyncio.to_thread(hold.wait, 10)

    async def leave() -> None:
        call = asyncio.ensure_future(there.acall(work))
        await asyncio.sleep(0)
        call.cancel()

    asyncio.run(leave())
    hold.set()
    assert there.call(lambda: asyncio.sleep(0, "still there")) == "still there"


def test_nobody_waits_for_a_loop_that_stops_meanwhile() -> None:
    ends: list[str] = []

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def call_from_a_loop(there: BackgroundLoop) -> None:
        while True:
            await there.acall(nothing)

    def call_from_a_thread(there: BackgroundLoop) -> None:
        while True:
            there.call(nothing)

    def noting(work: Callable[[], object]) -> None:
        try:
            work()
        except (asyncio.CancelledError, FutureCancelled, RuntimeError) as end:
            ends.append(type(end).__name__)

    for _ in range(40):
        there = BackgroundLoop("stopped")
        works = [
            lambda there=there: asyncio.run(call_from_a_loop(there)),
            partial(call_from_a_thread, there),
        ] * 2
        callers = [threading.Thread(target=noting, args=(work,), daemon=True) for work in works]
        for caller in callers:
            caller.start()
        there.call(lambda: asyncio.sleep(0.002))
        there.stop()
        for caller in callers:
            caller.join(10)
        assert not any(caller.is_alive() for caller in callers), "a caller waits for ever"
    assert len(ends) == 160
