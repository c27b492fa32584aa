"""A forked child has its parent's objects, and not the thread that serves them."""

import asyncio
import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import CompletionStream, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing.reply import answered
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.owner import Owner
from support.callers.llm import ask
from support.workers.engine_kit import settle_now

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm*")

FORK = multiprocessing.get_context("fork")
USES: dict[str, Callable[[CompletionStream], object]] = {
    "reads on": next,
    "reads to the end": lambda stream: stream.result(),
    "leaves": lambda stream: stream.__exit__(None, None, None),
    "cancels": lambda stream: stream.cancel(),
}


def in_a_child(use: Callable[[], object]) -> Any:
    """What `use` raises in a forked child, as a text."""
    outcome = FORK.SimpleQueue()

    def run() -> None:
        try:
            use()
        except BaseException as error:
            outcome.put(f"{type(error).__name__}: {error}")
        else:
            outcome.put("nothing")

    child = FORK.Process(target=run)
    child.start()
    child.join(20)
    assert child.exitcode == 0, "it hangs, or died"
    return outcome.get()


@pytest.fixture
def llm(redis_url: str) -> QueueLLM:
    return QueueLLMResolver("m", redis_url=redis_url).resolve("o", "g", "a")


@pytest.mark.parametrize("use", USES)
def test_a_child_that_uses_its_parents_stream_is_told(llm: QueueLLM, redis_url: str, use: str) -> None:
    with llm.stream(ask("?")) as stream:
        raised = in_a_child(lambda: USES[use](stream))
        assert raised.startswith("RuntimeError: this belongs to process ")
        assert "of your own" in raised
        settle_now(redis_url, stream.job_id, answered(CompletionCall(model="m", params={}), "whole"),
                   Owner(org="o", guild="g", agent="a"))  # fmt: skip
        assert "".join(chunk.text for chunk in stream) == "whole"


def test_a_child_follows_the_job_by_a_handle_of_its_own(llm: QueueLLM, redis_url: str) -> None:
    with llm.stream(ask("?")) as stream:
        job_id = stream.job_id
        settle_now(redis_url, job_id, answered(CompletionCall(model="m", params={}), "whole"),
                   Owner(org="o", guild="g", agent="a"))  # fmt: skip

        def read() -> None:
            assert llm.job(job_id).result().choices[0].message.content == "whole"

        assert in_a_child(read) == "nothing"
        assert stream.result().choices[0].message.content == "whole"


def test_a_child_that_goes_on_with_its_parents_batch_is_told(llm: QueueLLM, redis_url: str) -> None:
    batch = llm.batch(ask(str(number)) for number in range(3))
    waiting = FORK.SimpleQueue()
    engine_used = llm.submit(ask("makes the engine"))
    assert not engine_used.status().final

    async def stream_it() -> None:
        async with llm.async_stream(ask("?")) as stream:
            waiting.put(in_a_child(lambda: asyncio.run(stream.__anext__())))

    asyncio.run(stream_it())
    assert waiting.get().startswith("RuntimeError: this belongs to process ")
    assert in_a_child(lambda: next(batch)).startswith("RuntimeError: this belongs to process ")
    batch.close()
