"""Calls that wait: in any order of first uses, through a Redis that forgets, refuses, or is busy."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
import redis

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver, QueueUnavailable
from rustic_ai.llm_queue.resolver.client import stream_reader, waiter
from rustic_ai.llm_queue.resolver.client.background import supervised
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.resolver.client.waiter import ResultWaiter
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import (
    OWNER,
    a_job,
    answer_now,
    answer_text,
    await_answer,
    in_thread,
    queued,
    subscribed,
)

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm*")


@pytest.fixture
def slow_to_give_up(redis_url: str) -> Iterator[Engine]:
    """An engine whose outage timeout is longer than these tests: no step of theirs may wait for it."""
    engine = Engine(QueueSettings(redis_url=redis_url, redis_timeout=timedelta(seconds=100)))
    yield engine
    engine.close()


@pytest.fixture
def often_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The safety poll of a second's tenths, in place of seconds."""
    monkeypatch.setattr(waiter, "_SAFETY_POLL_S", 0.1)


def unpublished(server: ValkeyServer, job: Job) -> None:
    """The job's result will be stored, but the call that waits for it is not told."""
    with server.client() as client:
        client.hdel(keys.job_key(job.id), "reply_channel")


@pytest.mark.parametrize("first", ["a stream", "a handle", "a call"])
def test_a_call_waits_for_nothing_whatever_was_used_before_it(
    slow_to_give_up: Engine, valkey: ValkeyServer, redis_url: str, first: str
) -> None:
    engine, before = slow_to_give_up, a_job(stream=True, stream_ttl_s=60.0)
    if first == "a stream":
        source = engine.stream(before)
        assert engine.call(partial(source.join, 20))
    elif first == "a handle":
        engine.call(partial(engine.submit, before))
        waiting = partial(engine.outcome, before.id, OWNER, deadline_s=20)
        with in_thread(lambda: engine.call(waiting)):
            wait_until(partial(subscribed, valkey, 2), 10, "the handle's subscription")
            answer_now(redis_url, before.id, "before")
    for text in ("the first", "the second"):
        job = a_job()
        with in_thread(partial(await_answer, engine, job, deadline_s=20)) as call:
            wait_until(partial(queued, valkey, job), 10, "the job to be queued")
            answer_now(redis_url, job.id, text)
        assert answer_text(call.result) == text


def test_an_error_in_the_background_does_not_end_the_poll(
    engine: Engine, valkey: ValkeyServer, redis_url: str, often_polled: None,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    failed = threading.Event()
    read = ResultWaiter._read

    async def read_or_fail(self: ResultWaiter, *, after_loss: bool) -> None:
        if not failed.is_set():
            failed.set()
            raise KeyError("nobody expected it")
        await read(self, after_loss=after_loss)

    monkeypatch.setattr(ResultWaiter, "_read", read_or_fail)
    monkeypatch.setattr(supervised, "_RESTART_STEP_S", 0.01)
    job = a_job()
    with in_thread(partial(await_answer, engine, job)) as call:
        wait_until(partial(queued, valkey, job), 10, "the job to be queued")
        assert failed.wait(10)
        unpublished(valkey, job)
        answer_now(redis_url, job.id, "found")
    assert answer_text(call.result) == "found"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "The background task 'results' failed and is started again"
    ]


@contextmanager
def long_script(server: ValkeyServer) -> Iterator[None]:
    """A script that runs until it is killed; meanwhile every other command is refused with BUSY."""
    with server.client() as client:
        client.config_set("busy-reply-threshold", 1)

    def run() -> None:
        with server.client(retry=None, socket_timeout=60) as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    with in_thread(run), server.client() as client:
        wait_until(partial(_busy, client), 10, "the server to be busy")
        yield
        client.execute_command("SCRIPT KILL")


def _busy(client: redis.Redis) -> bool:
    try:
        client.get("anything")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_a_busy_redis_ends_neither_the_poll_nor_a_call(
    own_valkey: ValkeyServer, often_polled: None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(QueueSettings(redis_url=own_valkey.url, redis_timeout=timedelta(seconds=30)))
    job, later = a_job(), a_job()
    call, call_meanwhile = (in_thread(partial(await_answer, engine, one)) for one in (job, later))
    caplog.set_level("DEBUG", logger=waiter.logger.name)
    with call:
        wait_until(partial(queued, own_valkey, job), 10, "the job to be queued")
        with long_script(own_valkey):
            call_meanwhile.__enter__()
            wait_until(lambda: "RedisNotReady" in caplog.text, 10, "a poll that is refused")
        wait_until(partial(queued, own_valkey, later), 20, "the job of the call meanwhile")
        answer_now(own_valkey.url, later.id, "later")
        unpublished(own_valkey, job)
        answer_now(own_valkey.url, job.id, "found")
    call_meanwhile.__exit__(None)
    assert [answer_text(one.result) for one in (call, call_meanwhile)] == ["found", "later"]
    engine.close()


def test_a_redis_without_enough_replicas_takes_the_job_once_it_has_them(own_valkey: ValkeyServer) -> None:
    engine = Engine(QueueSettings(redis_url=own_valkey.url, redis_timeout=timedelta(seconds=30)))
    job = a_job()
    with own_valkey.client() as client:
        client.config_set("min-replicas-to-write", 1)
        with in_thread(partial(await_answer, engine, job)) as call:
            wait_until(lambda: client.info("errorstats").get("errorstat_NOREPLICAS"), 10, "a refused write")
            client.config_set("min-replicas-to-write", 0)
            wait_until(partial(queued, own_valkey, job), 20, "the job to be queued")
            answer_now(own_valkey.url, job.id, "at last")
    assert answer_text(call.result) == "at last"
    engine.close()


def test_calls_that_a_flush_has_lost_are_submitted_again_by_the_poll(
    own_engine: Engine, own_valkey: ValkeyServer, often_polled: None
) -> None:
    jobs = [a_job() for _ in range(20)]
    threads = [in_thread(partial(await_answer, own_engine, job)) for job in jobs]
    for thread in threads:
        thread.__enter__()
    wait_until(lambda: all(queued(own_valkey, job) for job in jobs), 10, "all jobs")
    with own_valkey.client() as client:
        client.flushall()
    wait_until(lambda: all(queued(own_valkey, job) for job in jobs), 10, "all jobs to be there again")
    with own_valkey.client() as client:
        wait_until(lambda: client.zcard(keys.CALLERS) == 1, 10, "this process to be listed as a caller again")
    for job, thread in zip(jobs, threads, strict=True):
        answer_now(own_valkey.url, job.id, job.id)
        thread.__exit__(None)
        assert answer_text(thread.result) == job.id


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
def test_a_redis_that_refuses_what_is_needed_while_a_call_waits_is_reported(
    own_valkey: ValkeyServer, often_polled: None, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(stream_reader, "_QUIET_S", 0.1)
    llm = QueueLLMResolver("m", redis_url=own_valkey.url, timeout=60.0).resolve("o", "g", "a")

    def wait() -> None:
        with pytest.raises(QueueUnavailable, match="out of memory"):
            llm.stream(ask("?")).__enter__().result() if stream else llm.completion(ask("?"))

    with in_thread(wait), own_valkey.client() as client:
        wait_until(lambda: client.dbsize() > 2, 10, "the job to be queued")
        # The job is lost, and there is no room to submit it again.
        client.config_set("maxmemory", 1)
        client.flushall()


CALLS: dict[str, Callable[[QueueLLM], object]] = {
    "completion": lambda llm: llm.completion(ask("?")),
    "stream": lambda llm: llm.stream(ask("?")).__enter__(),
    "status": lambda llm: llm.job(a_job().id).status(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_password_is_reported_as_one(own_valkey: ValkeyServer, call: str) -> None:
    with own_valkey.client() as client:
        client.config_set("requirepass", "the right one")
    for url in (own_valkey.url, own_valkey.url.replace("://", "://:a-wrong-one@")):
        llm = QueueLLMResolver("m", redis_url=url).resolve("o", "g", "a")
        with pytest.raises(QueueUnavailable, match="refuses the user or the password") as caught:
            CALLS[call](llm)
        assert "a-wrong-one" not in str(caught.value)
