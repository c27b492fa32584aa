"""A result names the claim that ended its job, so that none of an earlier run is taken for the answer."""

import asyncio

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.resolver import ErrorKind, JobCancelled, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing.reply import answered, failed
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, TTL, in_thread, settle_now

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm*")

CALL = CompletionCall(model="m", params={})


async def replay(url: str, job_id: str) -> None:
    async with Redis.from_url(url, decode_responses=True) as redis:
        assert await Ledger(redis, result_ttl=TTL).replay(job_id)


def test_a_failure_of_before_a_replay_is_not_believed_while_the_job_runs_anew(
    valkey: ValkeyServer, redis_url: str
) -> None:
    llm = QueueLLMResolver("m", redis_url=redis_url).resolve(OWNER.org, OWNER.guild, OWNER.agent)
    handle = llm.submit(ask("?"))
    settle_now(redis_url, handle.id, failed(CALL, ErrorKind.BAD_REQUEST, "of the first run"), OWNER)
    with valkey.client() as client:
        old = client.get(keys.result_key(handle.id))
    asyncio.run(replay(redis_url, handle.id))
    with in_thread(handle.result) as waiting, valkey.client() as client:
        wait_until(lambda: client.pubsub_numsub(keys.result_key(handle.id))[0][1], 10, "the subscription")
        # Published again, and written again: both were true once, and open.
        client.set(keys.result_key(handle.id), old)
        client.publish(keys.result_key(handle.id), old)
        settle_now(redis_url, handle.id, answered(CALL, "of the second run"), OWNER)
    assert waiting.result.choices[0].message.content == "of the second run"


def test_a_job_that_is_cancelled_after_its_replay_ends_its_wait(valkey: ValkeyServer, redis_url: str) -> None:
    llm = QueueLLMResolver("m", redis_url=redis_url).resolve(OWNER.org, OWNER.guild, OWNER.agent)
    handle = llm.submit(ask("?"))
    settle_now(redis_url, handle.id, failed(CALL, ErrorKind.BAD_REQUEST, "of the first run"), OWNER)
    asyncio.run(replay(redis_url, handle.id))

    def wait() -> None:
        with pytest.raises(JobCancelled):
            handle.result()

    with in_thread(wait), valkey.client() as client:
        wait_until(lambda: client.pubsub_numsub(keys.result_key(handle.id))[0][1], 10, "the subscription")
        assert handle.cancel()
