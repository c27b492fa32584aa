"""The client engine against a real server; the test itself plays the worker, on the ledger."""

import asyncio
import multiprocessing
import os
import time
import uuid
from functools import partial
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.resolver.client.errors import QueueGone, SubmitConflict, WaitTimeout
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.processes.wait import async_wait_until, wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import (
    OWNER,
    a_job,
    answer_now,
    answer_text,
    in_thread,
    queued,
    subscribed,
    worker_hands,
)

#: No Celery worker takes the wake-ups, and some jobs are left waiting.
pytestmark = pytest.mark.leaves_keys("llm*")


def complete(engine: Engine, job: Job, deadline_s: float = 20) -> Outcome:
    async def go() -> Outcome:
        job_id = await engine.submit(job)
        return await engine.outcome(job_id, OWNER, deadline_s=deadline_s)

    return engine.call(go)


def test_a_new_engine_touches_no_network() -> None:
    engine = Engine(QueueSettings(redis_url="redis://127.0.0.1:1/0"))
    engine.close()


def test_a_submitted_job_is_announced_and_its_answer_received(
    engine: Engine, valkey: ValkeyServer, redis_url: str
) -> None:
    job = a_job()
    with in_thread(lambda: complete(engine, job)) as call:
        wait_until(lambda: queued(valkey, job), 5, "the job to be queued")
        with valkey.client() as client:
            wait_until(lambda: client.llen("llm") == 1, 5, "the wake-up")
        answer_now(redis_url, job.id, "hello")
    assert answer_text(call.result) == "hello"


def test_an_answer_that_was_there_before_is_found(engine: Engine, redis_url: str) -> None:
    job = a_job()
    engine.call(lambda: engine.submit(job))
    answer_now(redis_url, job.id, "early")
    assert answer_text(engine.call(lambda: engine.outcome(job.id, OWNER, deadline_s=5))) == "early"


async def test_many_callers_on_many_loops_share_one_subscription(
    engine: Engine, valkey: ValkeyServer, redis_url: str
) -> None:
    jobs = [a_job() for _ in range(103)]
    calls = [asyncio.create_task(self_contained(engine, job)) for job in jobs[:100]]
    calls += [
        asyncio.create_task(asyncio.to_thread(asyncio.run, self_contained(engine, job))) for job in jobs[100:]
    ]
    async with worker_hands(redis_url) as answer:
        for job in jobs:
            await async_wait_until(partial(queued, valkey, job), 10, "the job to be queued")
        assert len([one for one in valkey.connections() if one["sub"] != "0"]) == 1
        for job in jobs:
            await answer(job.id, job.id)
    assert [answer_text(outcome) for outcome in await asyncio.gather(*calls)] == [job.id for job in jobs]


async def self_contained(engine: Engine, job: Job) -> Outcome:
    """What an async processor does: a fresh event loop for one call."""

    async def go() -> Outcome:
        return await engine.outcome(await engine.submit(job), OWNER, deadline_s=20)

    return await engine.acall(go)


def test_a_deadline_ends_the_wait_and_not_the_job(engine: Engine, valkey: ValkeyServer) -> None:
    job = a_job()
    with pytest.raises(WaitTimeout):
        complete(engine, job, deadline_s=0.2)
    assert queued(valkey, job)
    assert engine.call(lambda: engine.cancel(job.id, OWNER)) == "cancelled"
    assert not queued(valkey, job)


def test_the_same_key_for_another_request_is_a_conflict(engine: Engine) -> None:
    key = keys.idempotency_key("o", "k")
    first = a_job()
    assert engine.call(lambda: engine.submit(first, key)) == first.id
    assert engine.call(lambda: engine.submit(a_job(), key)) == first.id
    with pytest.raises(SubmitConflict, match=first.id):
        engine.call(lambda: engine.submit(a_job(fingerprints="plain:2"), key))


def test_no_redis_is_an_error_within_five_seconds() -> None:
    engine = Engine(QueueSettings(redis_url="redis://127.0.0.1:1/0"))
    started = time.monotonic()
    with pytest.raises(QueueGone, match="LLM_QUEUE_REDIS_URL"):
        engine.call(lambda: engine.submit(a_job()))
    assert time.monotonic() - started < 5, "the promise of a clear error within 5 s"
    engine.close()


def test_a_frozen_redis_is_an_error_within_five_seconds(own_engine: Engine, own_valkey: ValkeyServer) -> None:
    own_engine.call(lambda: own_engine.record(str(uuid.uuid4())))
    own_valkey.freeze()
    started = time.monotonic()
    with pytest.raises(QueueGone):
        own_engine.call(lambda: own_engine.submit(a_job()))
    assert time.monotonic() - started < 5, "the promise of a clear error within 5 s"
    own_valkey.thaw()


def test_a_waiting_call_outlives_a_redis_restart(own_engine: Engine, own_valkey: ValkeyServer) -> None:
    job = a_job()
    with in_thread(lambda: complete(own_engine, job, deadline_s=40)) as call:
        wait_until(lambda: queued(own_valkey, job), 5, "the job to be queued")
        own_valkey.restart(after_s=1.0)
        answer_now(own_valkey.url, job.id, "after the restart")
    assert answer_text(call.result) == "after the restart"


def test_a_result_published_while_the_connection_was_cut_is_found(
    engine: Engine, valkey: ValkeyServer, redis_url: str
) -> None:
    job = a_job()
    with in_thread(lambda: complete(engine, job)) as call:
        wait_until(lambda: subscribed(valkey, 2), 5, "the subscription")
        valkey.cut_connections("pubsub")
        answer_now(redis_url, job.id, "missed")
    assert answer_text(call.result) == "missed"


def test_a_forged_message_does_not_end_a_call(engine: Engine, valkey: ValkeyServer, redis_url: str) -> None:
    job = a_job()
    with in_thread(lambda: complete(engine, job)) as call:
        wait_until(lambda: subscribed(valkey, 2), 5, "the subscription")
        with valkey.client() as client:
            for forged in ("garbage", "{}", '{"v":1,"sealed":"plain:{}"}', '{"v":99,"sealed":""}'):
                assert client.publish(keys.result_key(job.id), forged) == 1
        answer_now(redis_url, job.id, "true")
    assert answer_text(call.result) == "true"


def test_a_waiting_call_gets_its_timeout_while_redis_is_away(
    own_engine: Engine, own_valkey: ValkeyServer
) -> None:
    job = a_job()
    own_engine.call(lambda: own_engine.submit(job))
    own_valkey.kill()
    with pytest.raises(WaitTimeout):
        own_engine.call(lambda: own_engine.outcome(job.id, OWNER, deadline_s=3))
    own_valkey.start()


def test_a_cancelled_caller_leaves_nothing_behind(engine: Engine, valkey: ValkeyServer) -> None:
    async def cut_short() -> None:
        async with asyncio.timeout(0.3):
            await engine.acall(lambda: engine.outcome(str(uuid.uuid4()), OWNER, deadline_s=None))

    with pytest.raises(TimeoutError):
        asyncio.run(cut_short())
    wait_until(lambda: [c["sub"] for c in valkey.connections() if c["sub"] != "0"] == ["1"], 5, "unsubscribe")


def _in_child(url: str, job_id: str, answers: Any) -> None:
    engine = Engine.shared(QueueSettings(redis_url=url))
    answers.put((answer_text(complete(engine, a_job(id=job_id))), os.getpid()))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_an_engine_of_its_own(redis_url: str, valkey: ValkeyServer) -> None:
    parent = Engine.shared(QueueSettings(redis_url=redis_url))
    parent.call(lambda: parent.record(str(uuid.uuid4())))
    context = multiprocessing.get_context("fork")
    job, answers = a_job(), context.Queue()
    child = context.Process(target=_in_child, args=(redis_url, job.id, answers))
    child.start()
    wait_until(lambda: queued(valkey, job), 10, "the child's job")
    answer_now(redis_url, job.id, "to the child")
    assert answers.get(timeout=10) == ("to the child", child.pid)
    child.join(10)
    assert Engine.shared(QueueSettings(redis_url=redis_url)) is parent
    parent.close()
