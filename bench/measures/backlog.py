"""A backlog: how fast it drains, and what it costs the one client that awaits all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from redis import Redis

from bench.contenders.contender import Contender
from bench.contenders.queue import Queue
from bench.report.figures import Figures, Meter, Sizes
from support.processes.wait import wait_until

_LONGEST_S = 600.0


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """For each number of awaited results: client CPU to submit and to await one, jobs per second.

    The workers stand still while the jobs are submitted.
    """
    return {
        contender.name: {f"awaiting_{number}": _measure(contender, number) for number in sizes.awaited}
        for contender in contenders
        if type(contender) is Queue
    }


def _announced(redis: Redis) -> int:
    # Not the length of the queue: what a worker was waiting for when it was frozen is on its way to it.
    return int(redis.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))


def _measure(contender: Queue, number: int) -> dict[str, float]:
    for worker in contender.workers:
        worker.freeze()
    with contender.valkey.client() as redis:
        redis.config_resetstat()
        submitting = Meter(contender)
        contender.do("begin", number=number, prompt="backlog")
        wait_until(lambda: _announced(redis) >= number, _LONGEST_S, f"{number} announced jobs")
        submitted, clients = submitting.used(), redis.info("clients")["connected_clients"]
        memory = redis.info("memory")["used_memory"]
    draining = Meter(contender)
    began = time.perf_counter()
    for worker in contender.workers:
        worker.thaw()
    contender.do("finish")
    wall_s, drained = time.perf_counter() - began, draining.used()
    per_job = 1000 / number
    return {
        "jobs_per_s": round(number / wall_s, 1),
        "jobs_per_work_cpu_s": round(number / max(drained["work"], 1e-3), 1),
        "client_cpu_ms_to_submit": round(submitted["client"] * per_job, 3),
        "client_cpu_ms_to_await": round(drained["client"] * per_job, 3),
        "work_cpu_ms": round(drained["work"] * per_job, 3),
        "redis_cpu_ms": round((submitted["redis"] + drained["redis"]) * per_job, 3),
        "redis_connections": clients,
        "redis_bytes_per_waiting_job": round(memory / number),
    }
