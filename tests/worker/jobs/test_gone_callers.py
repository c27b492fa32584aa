"""Jobs whose caller's process is gone are cancelled; those of the living, and of nobody, are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.resolver import JobState, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.callers import Callers
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.jobs.gone_callers import GoneCallers
from support.callers.waiting_process import waiting_process
from support.processes.wait import async_wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import (
    OWNER,
    PLAIN,
    TTL,
    a_job,
    answer_now,
    answer_text,
    await_answer,
    in_thread,
    queued,
)

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm*")

OFTEN = timedelta(milliseconds=50)


@asynccontextmanager
async def gone_callers(url: str, *, absent_for: timedelta) -> AsyncIterator[Redis]:
    """A worker's look at the callers, often."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger(redis, result_ttl=TTL)
        service = GoneCallers(Callers(redis), ledger, PLAIN, beat=OFTEN, absent_for=absent_for)
        running = asyncio.create_task(service.run())
        try:
            yield redis
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def states(llm: QueueLLM, job_ids: list[str]) -> list[JobState]:
    return [llm.job(job_id).status() for job_id in job_ids]


def all_jobs(valkey: ValkeyServer) -> set[str]:
    with valkey.client() as client:
        return {key.removeprefix(keys.JOB_PREFIX) for key in client.scan_iter(f"{keys.JOB_PREFIX}*")}


async def test_what_a_killed_process_waited_for_is_cancelled(valkey: ValkeyServer, redis_url: str) -> None:
    llm = QueueLLMResolver("m", redis_url=redis_url).resolve(OWNER.org, OWNER.guild, OWNER.agent)
    with waiting_process(redis_url) as (process, jobs):
        await async_wait_until(lambda: len(all_jobs(valkey)) == 5, 20, "all jobs")
        (called,) = all_jobs(valkey) - {job_id for ids in jobs.values() for job_id in ids}
        async with gone_callers(redis_url, absent_for=timedelta(seconds=1)) as redis:
            await async_wait_until(lambda: redis.zcard(keys.CALLERS), 20, "the process to be listed")
            later_detached = keys.job_key(jobs["detached"][1])
            await async_wait_until(partial(_has_no_caller, redis, later_detached), 20, "the detaching")
            process.kill()
            awaited = [*jobs["streamed"], called]
            await async_wait_until(
                lambda: states(llm, awaited) == [JobState.CANCELLED] * 2, 20, "the jobs to be cancelled"
            )
            assert await redis.zcard(keys.CALLERS) <= 1, "the dead one is forgotten, this process is listed"
    assert states(llm, jobs["submitted"] + jobs["detached"]) == [JobState.QUEUED] * 3
    assert await asyncio.to_thread(lambda: "reaper" in str(_failure(llm, called)))


def _failure(llm: QueueLLM, job_id: str) -> BaseException | None:
    try:
        llm.job(job_id).result()
    except Exception as error:
        return error
    return None


async def test_a_process_that_lives_is_left_alone_through_a_lost_connection(
    valkey: ValkeyServer, redis_url: str
) -> None:
    engine = Engine.shared(QueueSettings(redis_url=redis_url))
    job = a_job()
    with in_thread(partial(await_answer, engine, job)) as call:
        await async_wait_until(partial(queued, valkey, job), 10, "the job to be queued")
        async with gone_callers(redis_url, absent_for=timedelta(seconds=5)) as redis:
            looks = await _looks(redis)
            for _ in range(3):
                valkey.cut_connections("pubsub")
                looks += 3
                await async_wait_until(partial(_looked, redis, looks), 20, "further looks")
            assert queued(valkey, job)
            assert await redis.zcard(keys.CALLERS) == 1
        await asyncio.to_thread(answer_now, redis_url, job.id, "at last")
    assert answer_text(call.result) == "at last"


async def _has_no_caller(redis: Redis, job: str) -> bool:
    return await redis.hget(job, "caller") == ""


async def _looks(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_pubsub|numsub", {}).get("calls", 0))


async def _looked(redis: Redis, times: int) -> bool:
    return await _looks(redis) >= times
