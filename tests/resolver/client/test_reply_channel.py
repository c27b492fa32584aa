"""The results of whole calls, which all come in on one channel of the process."""

import uuid
from functools import partial

import pytest

from rustic_ai.llm_queue.resolver.client import waiter
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.ledger import keys
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


def test_a_call_costs_redis_one_command_of_its_client(
    own_engine: Engine, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiter, "_SAFETY_POLL_S", 3600.0)
    for text in ("the first", "the second"):
        job = a_job()
        with own_valkey.client() as client, in_thread(partial(await_answer, own_engine, job)) as call:
            wait_until(partial(queued, own_valkey, job), 5, "the job to be queued")
            wait_until(partial(subscribed, own_valkey, 1), 5, "the reply channel")
            counts = client.info("commandstats")
            client.config_resetstat()
            answer_now(own_valkey.url, job.id, text)
        assert answer_text(call.result) == text
    # The first one's claim and finish, and the second one's submit.
    assert counts["cmdstat_fcall"]["calls"] == 3
    assert counts.keys().isdisjoint({"cmdstat_subscribe", "cmdstat_unsubscribe"})
    # `finish` itself reads one key; the client would read the result by a second.
    assert counts["cmdstat_get"]["calls"] == 1


def test_an_answer_that_the_reply_channel_missed_is_found(
    engine: Engine, valkey: ValkeyServer, redis_url: str
) -> None:
    job = a_job()
    with in_thread(lambda: await_answer(engine, job)) as call:
        wait_until(lambda: queued(valkey, job) and subscribed(valkey, 1), 5, "the job and the reply channel")
        valkey.cut_connections("pubsub")
        answer_now(redis_url, job.id, "missed")
    assert answer_text(call.result) == "missed"


def test_an_answer_that_was_not_published_is_found(
    engine: Engine, valkey: ValkeyServer, redis_url: str
) -> None:
    job = a_job()
    with in_thread(lambda: await_answer(engine, job)) as call, valkey.client() as client:
        wait_until(lambda: queued(valkey, job) and subscribed(valkey, 1), 5, "the job and the reply channel")
        client.hdel(keys.job_key(job.id), "reply_channel")
        answer_now(redis_url, job.id, "unheard")
    assert answer_text(call.result) == "unheard"


def test_a_call_whose_job_redis_has_lost_is_submitted_again(
    own_engine: Engine, own_valkey: ValkeyServer
) -> None:
    job = a_job()
    with in_thread(lambda: await_answer(own_engine, job)) as call:
        wait_until(lambda: queued(own_valkey, job) and subscribed(own_valkey, 1), 5, "the job")
        with own_valkey.client() as client:
            client.flushall()
        own_valkey.cut_connections("pubsub")
        wait_until(lambda: queued(own_valkey, job), 10, "the job to be there again")
        with own_valkey.client() as client:
            assert client.hexists(keys.job_key(job.id), "reply_channel")
        answer_now(own_valkey.url, job.id, "once more")
    assert answer_text(call.result) == "once more"


def test_others_may_wait_for_the_job_of_a_call(engine: Engine, valkey: ValkeyServer, redis_url: str) -> None:
    job = a_job()
    with in_thread(lambda: await_answer(engine, job)) as call:
        wait_until(lambda: queued(valkey, job), 5, "the job to be queued")
        waiting = partial(engine.outcome, job.id, OWNER, deadline_s=20)
        with in_thread(lambda: engine.call(waiting)) as other:
            wait_until(lambda: subscribed(valkey, 2), 5, "the other's subscription")
            answer_now(redis_url, job.id, "to both")
    assert [answer_text(one.result) for one in (call, other)] == ["to both", "to both"]


def test_forged_mail_does_not_end_a_call(engine: Engine, valkey: ValkeyServer, redis_url: str) -> None:
    job = a_job()
    with in_thread(lambda: await_answer(engine, job)) as call, valkey.client() as client:
        wait_until(lambda: queued(valkey, job) and subscribed(valkey, 1), 5, "the job and the reply channel")
        reply_channel = client.hget(keys.job_key(job.id), "reply_channel")
        for forged in ("", ":", job.id, f"{job.id}:", f"{job.id}:{{}}", f"{uuid.uuid4()}:{{}}"):
            assert client.publish(keys.result_key(reply_channel), forged) == 1
        answer_now(redis_url, job.id, "true")
    assert answer_text(call.result) == "true"
