"""Answers as they come, in memory as on real parts."""

import asyncio

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import FinishReason

from rustic_ai.llm_queue.resolver import (
    APIConnectionError,
    ChatCompletionChunk,
    ErrorKind,
    JobCancelled,
    JobState,
    JobTimeout,
    QueueLLM,
    RateLimitError,
    Restarted,
    StreamRestarted,
)
from support.callers.behaviour import Backend
from support.callers.llm import ask
from support.processes.wait import async_wait_until, wait_until
from support.providers.provider import Step

STORY = "Once upon a time there was a queue."
#: One of which the beginning is heard and the end is far away.
SLOW = Step(text=STORY, chunk_delay_s=5.0)


def assert_whole(chunks: list[ChatCompletionChunk]) -> None:
    assert "".join(chunk.text for chunk in chunks) == STORY
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [FinishReason.stop]
    assert not any(chunk.restarted for chunk in chunks)
    (usage,) = {chunk.usage.total_tokens for chunk in chunks if chunk.usage}
    assert usage == 18


def test_a_stream(backend: Backend) -> None:
    backend.script(Step(text=STORY, prompt_tokens=10, completion_tokens=8))
    with backend.llm().stream(ask("A story?")) as stream:
        chunks = list(stream)
    assert_whole(chunks)
    assert stream.text == stream.response.choices[0].message.content == STORY
    assert stream.response.job_id == stream.job_id
    assert stream.response.cost_usd
    assert stream.restarts == 0


async def test_an_async_stream(backend: Backend) -> None:
    backend.script(Step(text=STORY, prompt_tokens=10, completion_tokens=8))
    async with backend.llm().async_stream(ask("A story?")) as stream:
        chunks = [chunk async for chunk in stream]
    assert_whole(chunks)
    assert stream.text == stream.response.choices[0].message.content == STORY


def test_words_are_there_before_the_end(backend: Backend) -> None:
    backend.script(SLOW)
    llm = backend.llm()
    with llm.stream(ask("A story?")) as stream:
        while not stream.text:
            next(stream)
        assert STORY.startswith(stream.text)
        assert stream.text != STORY
        assert llm.job(stream.job_id).status() is JobState.RUNNING
        with pytest.raises(RuntimeError, match="not been read to its end"):
            _ = stream.response


def test_leaving_early_cancels_the_job(backend: Backend) -> None:
    backend.script(SLOW)
    llm = backend.llm()
    with llm.stream(ask("A story?")) as stream:
        next(stream)
    job = llm.job(stream.job_id)
    wait_until(lambda: job.status() is JobState.CANCELLED, 10, "the job to be cancelled")


def test_a_detached_job_goes_on(backend: Backend) -> None:
    backend.script(Step(text=STORY, hold=True))
    llm = backend.llm()
    with llm.stream(ask("A story?"), detach=True) as stream:
        job = llm.job(stream.job_id)
        wait_until(lambda: job.status() is JobState.RUNNING, 10, "a worker to take it")
    backend.release()
    assert job.result().choices[0].message.content == STORY


async def test_a_cancelled_stream_says_so(backend: Backend) -> None:
    backend.script(SLOW)
    async with backend.llm().async_stream(ask("A story?")) as stream:
        await anext(stream)
        assert await stream.cancel()
        with pytest.raises(JobCancelled, match="caller"):
            await stream.result()
        assert not await stream.cancel()


def test_a_stream_past_its_deadline_says_so(backend: Backend) -> None:
    backend.script(SLOW)
    with backend.llm(timeout=1.5).stream(ask("A story?")) as stream, pytest.raises(JobTimeout):
        stream.result()
    assert STORY.startswith(stream.text)


def test_a_failure_in_mid_stream_leaves_what_was_said(backend: Backend) -> None:
    backend.fail(ErrorKind.CONNECTION, Step(text=STORY, fault="cut", after_chunks=3))
    with backend.llm().stream(ask("A story?")) as stream, pytest.raises(APIConnectionError):
        stream.result()
    assert stream.text.split() == STORY.split()[:3]


def test_a_failure_before_the_first_word(backend: Backend) -> None:
    backend.script(Step(status=429, message="slow down"))
    with backend.llm().stream(ask("A story?")) as stream, pytest.raises(RateLimitError, match="slow down"):
        next(stream)


def test_a_text_that_begins_anew(backend: Backend) -> None:
    backend.restart("Void words", STORY)
    told: list[Restarted] = []
    with backend.llm(max_retries=1).stream(ask("A story?"), on_restart=told.append) as stream:
        chunks = list(stream)
    assert [one.reason for one in told] == [ErrorKind.CONNECTION]
    assert stream.text == stream.response.choices[0].message.content == STORY
    assert stream.restarts == 1
    (anew,) = [at for at, chunk in enumerate(chunks) if chunk.restarted]
    assert "".join(chunk.text for chunk in chunks[anew:]) == STORY
    assert [one.status for one in stream.response.attempts] == ["failed", "ok"]
    assert [one.number for one in stream.response.attempts] == [1, 2]


def test_a_text_that_must_not_begin_anew(backend: Backend) -> None:
    backend.restart("Void words", STORY)
    llm = backend.llm(max_retries=1)
    with llm.stream(ask("A story?"), refuse_restarts=True) as stream, pytest.raises(StreamRestarted):
        stream.result()


def streamed(llm: QueueLLM) -> str:
    job = llm.submit(ask("A story?"), stream=True)
    job.result()
    return job.id


def test_an_ended_stream_is_replayed(backend: Backend) -> None:
    backend.script(Step(text=STORY, prompt_tokens=10, completion_tokens=8))
    llm = backend.llm()
    job = llm.job(streamed(llm))
    for _ in range(2):
        with job.stream() as stream:
            assert_whole(list(stream))
    with job.stream(from_start=False) as stream:
        assert "".join(chunk.text for chunk in stream) == ""
    assert stream.text == STORY


async def test_a_late_reader_joins(backend: Backend) -> None:
    backend.script(SLOW)
    llm = backend.llm()
    async with llm.async_stream(ask("A story?")) as first:
        await anext(first)
        async with llm.job(first.job_id).async_stream() as second:
            while not second.text:
                await anext(second)
            assert STORY.startswith(second.text)
        assert await llm.job(first.job_id).async_status() is JobState.RUNNING, "its reader may leave"


def test_a_job_that_is_no_stream_comes_in_one_chunk(backend: Backend) -> None:
    backend.script(Step(text=STORY))
    job = backend.llm().submit(ask("A story?"))
    with job.stream() as stream:
        (chunk,) = list(stream)
    assert chunk.text == stream.text == STORY


async def test_a_wait_that_is_cut_short_loses_nothing(backend: Backend) -> None:
    backend.script(Step(text=STORY, hold=True))
    async with backend.llm().async_stream(ask("A story?")) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(stream)
        job = backend.llm().job(stream.job_id)
        await async_wait_until(lambda: job.status() is JobState.RUNNING)
        await asyncio.to_thread(backend.release)
        assert "".join([chunk.text async for chunk in stream]) == STORY
