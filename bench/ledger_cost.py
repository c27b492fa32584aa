"""What the ledger costs a worker per job, against what plain Celery does in its place.

    python -m bench.ledger_cost

CPU time of one process that does, for many jobs at once, the steps of an answered job (claim, and finish,
which stores and publishes Celery's result, too) and nothing else; and of Celery's own Redis backend storing
and publishing the same result. Taking the message and calling the provider are in neither.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from functools import partial

import uvloop
from celery import Celery, states

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.owner import Owner
from support.servers.valkey import ValkeyServer

ROUNDS, JOBS, IN_FLIGHT = 7, 1_000, 64
_OWNER = Owner(org="o", guild="g", agent="a")
_REQUEST = json.dumps({"messages": [{"role": "user", "content": "a prompt of 2 kB " * 120}]})
_ANSWER = json.dumps({"choices": [{"message": {"content": "an answer of 1 kB " * 56}}]})
_ENDED = [AttemptRecord(number=1, epoch=1, model="openai/gpt-4o-mini", status="ok", run_time_s=1.0)]


async def answered_jobs(ledger: Ledger, number: int) -> None:
    """Submit jobs, then claim and finish each."""
    jobs = new_jobs(number)
    await _each(jobs, ledger.submit)
    await _each(jobs, partial(_answer, ledger))


async def ledger_round(ledger: Ledger) -> tuple[float, float]:
    """CPU and wall seconds a job, of the worker's steps."""
    jobs = new_jobs(JOBS)
    await _each(jobs, ledger.submit)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await _each(jobs, partial(_answer, ledger))
    return (time.process_time() - cpu_s) / JOBS, (time.perf_counter() - wall_s) / JOBS


def new_jobs(number: int) -> list[Job]:
    """Jobs with a request of 2 kB."""
    return [
        Job(
            id=str(uuid.uuid4()),
            owner=_OWNER,
            model="openai/gpt-4o-mini",
            queue="llm",
            timeout_ms=600_000,
            request=f"plain:{_REQUEST}",
            fingerprints="plain:1",
        )
        for _ in range(number)
    ]


async def _answer(ledger: Ledger, job: Job) -> None:
    claim = await ledger.claim(
        job.id, worker="w", token=str(uuid.uuid4()), lease=timedelta(seconds=15), most_losses=2
    )
    assert claim.record is not None, claim.verdict
    meta = json.dumps({"status": "SUCCESS", "result": _ANSWER, "task_id": job.id})
    await ledger.finish(job.id, claim.epoch, JobState.ANSWERED, meta, attempts=_ENDED)


async def _each[T](items: Iterable[T], act: Callable[[T], Awaitable[object]]) -> None:
    left = iter(items)

    async def some() -> None:
        for item in left:
            await act(item)

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


def celery_round(app: Celery) -> tuple[float, float]:
    """CPU and wall seconds a job, of Celery's own storing of a result."""
    result = json.loads(_ANSWER)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(JOBS):
        app.backend.store_result(str(uuid.uuid4()), result, states.SUCCESS)
    return (time.process_time() - cpu_s) / JOBS, (time.perf_counter() - wall_s) / JOBS


async def rounds() -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Both in turn."""
    with ValkeyServer() as server:
        redis = connect(server.url, outage_s=10)
        app = Celery(broker=server.url, backend=server.url)
        ledger = Ledger(redis, result_ttl=timedelta(minutes=5))
        try:
            measured = []
            for _ in range(ROUNDS):
                measured.append((await ledger_round(ledger), celery_round(app)))
                await redis.flushdb()
            return measured
        finally:
            await redis.aclose()
            app.close()


def main() -> None:
    """Print milliseconds a job of each, and the difference."""
    measured = uvloop.run(rounds())
    ours, celerys = zip(*measured, strict=True)
    print(f"{ROUNDS} rounds of {JOBS:,} jobs, medians a job")
    for name, column in (("ledger: claim, finish", ours), ("Celery: store_result", celerys)):
        cpu_ms, wall_ms = (statistics.median(one) * 1e3 for one in zip(*column, strict=True))
        print(f"{name:<24}{cpu_ms:6.3f} ms CPU {wall_ms:6.3f} ms wall")
    extra_ms = statistics.median(our[0] - its[0] for our, its in measured) * 1e3
    print(f"{'the ledger costs':<24}{extra_ms:6.3f} ms CPU more")


if __name__ == "__main__":
    main()
