"""What reused answers cost and save: the CPU of the worker, and the time in Redis' commands, a call.

    python -m bench.reuse

Five kinds of calls in turn, in several rounds, through one real worker: one that asks for nothing of the
kind, one that looks for a kept answer and finds none, the same that keeps its own then, one that finds an
answer, and one that leads a flight nobody joins.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from support.callers.llm import ask
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

ROUNDS, CALLS, IN_FLIGHT = 9, 400, 32
#: Properties by what they make of a call; `hit` asks one question again and again.
KINDS: dict[str, dict[str, Any]] = {
    "asks for nothing": {},
    "looks, finds none": {"cache_ttl_s": 600, "cache": "no-store"},
    "and keeps its own": {"cache_ttl_s": 600},
    "hit": {"cache_ttl_s": 600},
    "leads alone": {"single_flight": True},
}


@contextmanager
def queue() -> Iterator[tuple[ValkeyServer, WorkerProcess]]:
    """A server, a provider and a worker."""
    with ValkeyServer() as server, ProviderStub() as provider:
        env = {"LLM_QUEUE_REDIS_URL": server.url, **provider.env()}
        with WorkerProcess(env) as worker:
            os.environ["LLM_QUEUE_REDIS_URL"] = server.url
            yield server, worker


async def calls(llm: QueueLLM, prompts: list[str]) -> None:
    """One call a prompt, so many at a time."""
    left = iter(prompts)

    async def some() -> None:
        for prompt in left:
            await llm.async_completion(ask(prompt))

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


def redis_us(server: ValkeyServer) -> float:
    """Microseconds that Redis has spent in commands; one that a function calls counts in both."""
    with server.client() as redis:
        return float(sum(one["usec"] for one in redis.info("commandstats").values()))


def cpu_us(process: psutil.Process) -> float:
    """Microseconds of CPU the process has used."""
    times = process.cpu_times()
    return float(times.user + times.system) * 1e6


def measured() -> dict[str, list[tuple[float, float]]]:
    """Microseconds a call, of the worker's CPU and in Redis' commands, by kind and round."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with queue() as (server, worker):
        process = psutil.Process(worker.pid or 0)
        llms = {
            kind: QueueLLMResolver(model="openai/gpt-4o-mini", **properties).resolve("acme", "g", "a")
            for kind, properties in KINDS.items()
        }
        asyncio.run(calls(llms["hit"], ["the same"] * 20))
        for number in range(ROUNDS):
            for kind in list(KINDS)[:: 1 if number % 2 else -1]:
                prompts = ["the same" if kind == "hit" else str(uuid.uuid4()) for _ in range(CALLS)]
                before = cpu_us(process), redis_us(server)
                asyncio.run(calls(llms[kind], prompts))
                after = cpu_us(process), redis_us(server)
                found[kind].append(((after[0] - before[0]) / CALLS, (after[1] - before[1]) / CALLS))
    return found


def main() -> None:
    """Print medians and what each kind costs beyond a call that asks for nothing, round by round."""
    found = measured()
    plain = found["asks for nothing"]
    print(f"{ROUNDS} alternating rounds of {CALLS} calls, medians, microseconds a call:")
    print("the worker's CPU, and the time in Redis' commands")
    print(f"{'':<20}{'worker':>10}{'Redis':>10}{'beyond plain: worker':>24}{'Redis':>10}")
    for kind, rounds in found.items():
        own = [statistics.median(one) for one in zip(*rounds, strict=True)]
        more = [
            statistics.median(its - base for its, base in zip(column, base_column, strict=True))
            for column, base_column in zip(zip(*rounds, strict=True), zip(*plain, strict=True), strict=True)
        ]
        print(f"{kind:<20}{own[0]:>10.0f}{own[1]:>10.1f}{more[0]:>+24.0f}{more[1]:>+10.1f}")


if __name__ == "__main__":
    main()
