"""How long a command waits for a Redis that answers nobody, or only others."""

import asyncio

import pytest

from rustic_ai.llm_queue.resolver.client.outage_timeout import OutageTimeout


async def answered(after_s: float = 0.0) -> str:
    await asyncio.sleep(after_s)
    return "answered"


async def test_whoever_hears_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    outage_timeout = OutageTimeout(0.2)
    for _ in range(2):
        assert await outage_timeout.wait(answered()) == "answered"
        silent = [asyncio.create_task(outage_timeout.wait(answered(3600))) for _ in range(3)]
        await asyncio.sleep(0.05)  # these begin later, and end later
        silent += [asyncio.create_task(outage_timeout.wait(answered(3600))) for _ in range(3)]
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*silent, return_exceptions=True)
        assert [type(error) for error in ended] == [TimeoutError] * 6
    assert not caplog.records


async def test_the_answers_of_others_prolong_the_wait() -> None:
    outage_timeout = OutageTimeout(1.0)
    waiting = asyncio.create_task(outage_timeout.wait(answered(3600)))
    for _ in range(20):
        await outage_timeout.wait(answered(0.1))
    assert not waiting.done()
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await waiting


async def test_an_error_and_a_cancelled_caller_are_passed_on() -> None:
    outage_timeout = OutageTimeout(60.0)

    async def refused() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await outage_timeout.wait(refused())
    waiting = asyncio.create_task(outage_timeout.wait(answered(3600)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
