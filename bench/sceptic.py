"""The first ratio of the benchmark, measured without the benchmark: `python -m bench.sceptic`.

LiteLLM's SDK in this process, CPU by `time.process_time`; the worker by the kernel's clock of its process.
Both get the same calls of the same provider, 64 in flight, in turn. Nothing of the contenders, drivers or
meters is used: what those add to either side would show as a difference from `python -m bench.wires`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.clients.models import MODEL, environment
from bench.lab import Stub
from bench.report.ratio import paired_ratio
from rustic_ai.llm_queue.resolver.client.engine import Engine
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

ROUNDS, CALLS, IN_FLIGHT = 25, 150, 64


async def each(call: Callable[[], Awaitable[Any]], number: int) -> None:
    """Make calls, so many in flight."""
    left = iter(range(number))

    async def some() -> None:
        for _ in left:
            assert (await call()).choices[0].message.content

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


async def compare(worker_pid: int) -> None:
    """Print CPU a call on both sides, and the ratio."""
    import litellm
    from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

    from rustic_ai.llm_queue.resolver import QueueLLMResolver

    llm = QueueLLMResolver(model=MODEL).resolve("o", "g", "a")

    async def of_the_worker() -> Any:
        return await llm.async_completion(ChatCompletionRequest(messages=[UserMessage(content="hello")]))

    async def of_the_sdk() -> Any:
        return await litellm.acompletion(model=MODEL, messages=[{"role": "user", "content": "hello"}])

    def worker_cpu_s() -> float:
        return time.clock_gettime((~worker_pid << 3) | 2)

    sides = (of_the_worker, worker_cpu_s), (of_the_sdk, time.process_time)
    ms: tuple[list[float], list[float]] = ([], [])
    for number in range(-1, ROUNDS):
        for side in (0, 1) if number % 2 else (1, 0):
            call, clock = sides[side]
            before_s = clock()
            await each(call, CALLS)
            if number >= 0:
                ms[side].append((clock() - before_s) / CALLS * 1000)
    for name, values in zip(("worker", "SDK"), ms, strict=True):
        print(f"{name:<8} {min(values):.2f} to {max(values):.2f} ms of CPU a call")
    print(f"calls a CPU second, worker / SDK: {paired_ratio(ms[1], ms[0])}, {ROUNDS} pairs")


def main() -> None:
    """Start a provider, a Redis and a worker, and compare."""
    stub = Stub()
    stub.start()
    with ValkeyServer() as valkey:
        env = environment(stub.url) | {
            "LLM_QUEUE_REDIS_URL": valkey.url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        os.environ.update(env)
        with WorkerProcess(env) as worker:
            asyncio.run(compare(worker.pid))
            Engine.close_shared()
            stub.process.kill()


if __name__ == "__main__":
    main()
