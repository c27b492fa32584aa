"""`QueueLLM` over the real engine and a real server, with nobody there to do the work."""

import asyncio
import time
from collections.abc import Callable

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from rustic_ai.llm_queue.resolver import (
    IdempotencyConflict,
    JobNotFound,
    JobState,
    JobTimeout,
    QueueLLM,
    QueueUnavailable,
)
from support.processes.wait import async_wait_until, wait_until
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.leaves_keys("llm*")

MakeLLM = Callable[..., QueueLLM]
HI = ChatCompletionRequest(messages=[UserMessage(content="Hi")])


def job_ids(server: ValkeyServer) -> list[str]:
    with server.client() as client:
        return [str(key).removeprefix("llmq:job:") for key in client.scan_iter("llmq:job:*")]


@pytest.fixture
def llm(make_llm: MakeLLM, redis_url: str) -> QueueLLM:
    return make_llm(redis_url=redis_url)


def test_past_the_timeout_the_job_is_cancelled(
    make_llm: MakeLLM, redis_url: str, valkey: ValkeyServer
) -> None:
    llm = make_llm(redis_url=redis_url, timeout=0.3)
    with pytest.raises(JobTimeout, match="no worker took it"):
        llm.completion(HI)
    [job_id] = job_ids(valkey)
    wait_until(lambda: llm.job(job_id).status().final, what="the job to end")


async def test_a_caller_that_goes_away_takes_its_job_along(llm: QueueLLM, valkey: ValkeyServer) -> None:
    waiting = asyncio.create_task(llm.async_completion(HI))
    [job_id] = await async_wait_until(lambda: job_ids(valkey))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    handle = llm.job(job_id)
    await async_wait_until(lambda: handle.status() is JobState.CANCELLED, what="the job to be cancelled")


def test_a_job_is_cancelled_by_its_handle(llm: QueueLLM) -> None:
    handle = llm.submit(HI)
    assert handle.status() is JobState.QUEUED
    assert handle.cancel()
    assert handle.status() is JobState.CANCELLED
    assert not handle.cancel()


def test_a_repeated_submit_is_the_same_job(
    llm: QueueLLM, make_llm: MakeLLM, redis_url: str, valkey: ValkeyServer
) -> None:
    first = llm.submit(HI, idempotency_key="order-1")
    assert llm.submit(HI, idempotency_key="order-1").id == first.id
    with pytest.raises(IdempotencyConflict):
        llm.submit(HI, "gpt-4o", idempotency_key="order-1")
    others = make_llm("b", redis_url=redis_url)
    assert others.submit(HI, idempotency_key="order-1").id != first.id
    with valkey.client() as client:
        named = [str(key) for key in client.scan_iter("*") if "order-1" in str(key)]
    assert named == [], "a caller's key may be private"


def test_an_unknown_job_is_not_found(llm: QueueLLM) -> None:
    with pytest.raises(JobNotFound):
        llm.job("00000000-0000-4000-8000-000000000000").status()


def test_a_server_that_is_not_there_is_said_to_be(make_llm: MakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_TIMEOUT", "0.5")
    llm = make_llm(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(QueueUnavailable, match="LLM_QUEUE_REDIS_URL"):
        llm.completion(HI)


def test_a_handle_attached_late_waits_no_longer_than_the_job_may_take(llm: QueueLLM) -> None:
    job_id = llm.submit(ChatCompletionRequest(messages=HI.messages, timeout=4)).id
    submitted = time.monotonic()
    wait_until(lambda: time.monotonic() - submitted > 3, what="most of the job's time to pass")
    with pytest.raises(JobTimeout):
        llm.job(job_id).result()
    assert time.monotonic() - submitted < 6, "no caller waits past the deadline; 4 s more would be 7"
