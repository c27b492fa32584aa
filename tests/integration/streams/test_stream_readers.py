"""Readers that come late, come twice, leave, or are cut off: all of them end with the same text."""

import asyncio
import multiprocessing
import random
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import JobCancelled, JobNotFound, QueueLLM, QueueLLMResolver, StreamExpired
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.proxy import TcpProxy
from support.servers.push_filter import Fate
from support.servers.valkey import ValkeyServer

SLOW = Step(words=40, chunk_delay_s=0.02)


def provider_text(provider: ProviderStub, tag: str = "q") -> str:
    (sent,) = provider.requests(tag)
    assert sent.completed
    return sent.text


def read_on(job_id: str, texts: Any) -> None:
    """In another process."""
    llm = QueueLLMResolver(model="openai/gpt-4o-mini").resolve("acme", "support", "helper")
    with llm.job(job_id).stream() as stream:
        texts.put("".join(chunk.text for chunk in stream))
    Engine.close_shared()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_second_process_joins_half_way_and_ends_with_the_same_text(
    llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("q", SLOW)
    context = multiprocessing.get_context("fork")
    texts = context.Queue()
    with llm().stream(ask("Tell us. #q")) as stream:
        for _ in range(3):
            next(stream)
        second = context.Process(target=read_on, args=(stream.job_id, texts))
        second.start()
        first_text = stream.result().choices[0].message.content
    assert texts.get(timeout=20) == first_text == provider_text(provider)
    second.join(10)


def test_a_job_submitted_as_a_stream_is_followed_by_its_id(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", SLOW)
    handle = llm().submit(ask("Tell us. #q"), stream=True)
    with llm().job(handle.id).stream() as stream:
        chunks = [chunk.text for chunk in stream]
    assert "".join(chunks) == provider_text(provider)
    assert len(chunks) > 3
    assert handle.result().choices[0].message.content == stream.text


def test_a_stream_is_replayed_after_its_end(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=200, chunk_chars=3))
    with llm().stream(ask("Tell us. #q")) as stream:
        live = stream.result()
    for _ in range(2):
        with llm().job(stream.job_id).stream() as replay:
            assert "".join(chunk.text for chunk in replay) == provider_text(provider)
        assert replay.response.choices == live.choices
        assert replay.restarts == 0


def test_a_reader_may_leave_out_what_came_before(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", SLOW)
    with llm().stream(ask("Tell us. #q")) as first:
        before = next(first).text + next(first).text
        with llm().job(first.job_id).stream(from_start=False) as late:
            new = "".join(chunk.text for chunk in late)
    text = provider_text(provider)
    assert late.text == text
    assert text.endswith(new)
    assert before
    assert len(new) <= len(text) - len(before)


def test_a_stream_whose_ttl_is_over_is_an_error_that_has_the_answer(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    brief = llm(stream_ttl_s=0.2)
    with brief.stream(ask("Tell us. #q")) as stream:
        answer = stream.result()
    with valkey.client() as client:
        wait_until(lambda: not client.exists(keys.stream_log_key(stream.job_id)), 5, "the stream's end")
    with pytest.raises(StreamExpired) as caught, brief.job(stream.job_id).stream() as late:
        late.result()
    assert caught.value.job_id == stream.job_id
    assert caught.value.result is not None
    assert caught.value.result.choices == answer.choices
    with valkey.client() as client:
        client.delete(keys.job_key(stream.job_id))
    with pytest.raises(JobNotFound), brief.job(stream.job_id).stream():
        pass


def test_a_job_that_is_no_stream_comes_whole(llm: MakeLLM, provider: ProviderStub) -> None:
    handle = llm().submit(ask("Tell us. #q"))
    with handle.stream() as stream:
        chunks = list(stream)
    assert [chunk.text for chunk in chunks if chunk.text] == [provider_text(provider)]
    assert stream.response.choices[0].message.content == stream.text


def through(proxy: TcpProxy, llm: MakeLLM) -> QueueLLM:
    return llm(url=proxy.redis_url)


def test_a_reader_whose_connection_is_cut_ten_times(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(words=150, chunk_delay_s=0.02))
    with TcpProxy(valkey.port) as proxy, through(proxy, llm).stream(ask("Tell us. #q")) as stream:
        heard, cuts = [], 0
        for chunk in stream:
            heard.append(chunk.text)
            if cuts < 10 and len(heard) > 4 * cuts:
                proxy.cut()
                cuts += 1
        assert cuts == 10
        assert proxy.accepted > 10
    assert "".join(heard) == provider_text(provider)
    assert stream.restarts == 0


def test_messages_that_redis_drops_and_doubles(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(words=150, chunk_delay_s=0.01))
    dice = random.Random(7)
    fates: list[Fate] = []

    def decide(channel: str, payload: bytes) -> Fate:
        fates.append(dice.choice(list(Fate)) if channel.startswith("llmq:frames:") else Fate.DELIVER)
        return fates[-1]

    with (
        TcpProxy(valkey.port, decide=decide) as proxy,
        through(proxy, llm).stream(ask("Tell us. #q")) as stream,
    ):
        heard = "".join(chunk.text for chunk in stream)
    assert {Fate.DROP, Fate.DOUBLE} <= set(fates)
    assert heard == provider_text(provider)
    assert stream.restarts == 0


def test_no_message_at_all_is_found_by_asking(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(words=30, chunk_delay_s=0.02))
    with (
        TcpProxy(valkey.port, decide=lambda channel, payload: Fate.DROP) as proxy,
        through(proxy, llm).stream(ask("Tell us. #q")) as stream,
    ):
        assert "".join(chunk.text for chunk in stream) == provider_text(provider)


def test_a_slow_reader_that_redis_throws_out(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("*", Step(text="All work and no play. " * 60_000, chunk_chars=20_000, times=None))
    with valkey.client() as client, TcpProxy(valkey.port) as proxy:
        client.config_set("client-output-buffer-limit", "pubsub 64kb 32kb 2")
        before = thrown_out(client)
        reader = through(proxy, llm)
        handles = [reader.submit(ask(f"Tell us. #q{number}"), stream=True) for number in range(12)]
        streams = [handle.stream() for handle in handles]
        for stream in streams:
            stream.__enter__()
        proxy.blackhole()
        wait_until(lambda: thrown_out(client) > before, 30, "Redis to lose its patience")
        proxy.heal()
        for stream in streams:
            assert stream.result().choices[0].message.content == "All work and no play. " * 60_000
            assert stream.restarts == 0
            stream.__exit__(None, None, None)
        client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")


def thrown_out(client: Any) -> int:
    """Clients that Redis has cut off for not reading."""
    return int(client.info("stats")["client_output_buffer_limit_disconnections"])


async def test_a_wait_that_is_cut_short_loses_no_chunk(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", SLOW)
    heard, short = [], 0
    async with llm().async_stream(ask("Tell us. #q")) as stream:
        while True:
            try:
                async with asyncio.timeout(0.005):
                    heard.append((await anext(stream)).text)
            except TimeoutError:
                short += 1
            except StopAsyncIteration:
                break
    assert short > 10
    assert "".join(heard) == provider_text(provider)


def test_who_does_not_read_holds_nobody_up(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="x" * 1_500_000, chunk_chars=10_000))
    with llm().stream(ask("Tell us. #q")) as stream:
        handle = llm().job(stream.job_id)
        wait_until(lambda: handle.status() is JobState.ANSWERED, 20, "the job's end")
        assert "".join(chunk.text for chunk in stream) == provider_text(provider)
    assert stream.restarts == 0


def test_leaving_early_cancels_the_job(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=2000, chunk_delay_s=0.05))
    with llm().stream(ask("Tell us. #q")) as stream:
        next(stream)
    left = provider.wait_for(lambda seen: not seen[0].open, "q", 5, "the provider's connection to close")
    assert left[0].client_closed
    with pytest.raises(JobCancelled):
        llm().job(stream.job_id).result()


@pytest.mark.parametrize("how", ["option", "method", "handle"])
def test_a_detached_job_goes_on(llm: MakeLLM, provider: ProviderStub, how: str) -> None:
    provider.plan("q", Step(words=20, chunk_delay_s=0.02))
    if how == "handle":
        handle = llm().submit(ask("Tell us. #q"), stream=True)
        with handle.stream() as stream:
            next(stream)
    else:
        with llm().stream(ask("Tell us. #q"), detach=how == "option") as stream:
            next(stream)
            if how == "method":
                stream.detach()
    assert llm().job(stream.job_id).result().choices[0].message.content == provider_text(provider)


def test_cancel_closes_the_providers_connection_and_says_what_was_used(
    llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("q", Step(words=2000, chunk_delay_s=0.05, prompt_tokens=77))
    with llm(model="anthropic/claude-sonnet-4-5").stream(ask("Tell us. #q")) as stream:
        heard = [next(stream).text for _ in range(4)]
        assert provider.open_calls == 1
        assert stream.cancel()
        provider.wait_for(lambda seen: not seen[0].open, "q", 1, "the provider's connection to close")
        with pytest.raises(JobCancelled) as caught:
            stream.result()
    (sent,) = provider.requests("q")
    assert sent.client_closed
    assert sent.text.startswith(stream.text)
    assert stream.text.startswith("".join(heard))
    assert [attempt.status for attempt in caught.value.attempts] == ["cancelled"]
    used = caught.value.account
    assert used is not None
    assert used.usage_estimated
    assert used.prompt_tokens == 77
    assert used.completion_tokens == pytest.approx(len(stream.text.encode()) / 4, abs=10)
    assert used.cost_usd is not None
    assert used.cost_usd > 0


def test_the_frames_in_redis_are_sealed(llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer) -> None:
    provider.plan("q", Step(text="canary " * 50))
    with llm().stream(ask("Sing. #q")) as stream:
        stream.result()
    with valkey.client() as client:
        frames = [fields["frame"] for _, fields in client.xrange(keys.stream_log_key(stream.job_id))]
    assert len(frames) >= 2
    assert frames[-1] == "end:answered"
    assert all(frame.startswith("aes256gcm:") for frame in frames[:-1])


def test_another_agents_stream_is_not_found(llm: MakeLLM, provider: ProviderStub) -> None:
    handle = llm().submit(ask("Tell us. #q"), stream=True)
    stranger = QueueLLMResolver(model="openai/gpt-4o-mini").resolve("acme", "support", "stranger")
    with pytest.raises(JobNotFound), stranger.job(handle.id).stream():
        pass
