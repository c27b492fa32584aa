"""What a call costs at the least: `python -m bench.floor [ROUNDS]`, and what the rest buys: with `--parts`.

The floor is an asyncio program of this page that takes a job from Redis with one blocking pop, makes the same
POST with bare httpx, and stores the answer. The worker's rounds alternate with its. The rest is what a worker
does beyond that: Celery's protocol and events, the claim that no other worker can share, each attempt on
record before it is made, the price, the log line, LiteLLM's translation and its exceptions. With `--parts`
rounds of a whole worker stand beside those of one that leaves a part out. Claim and finish, in which a call's
first attempt comes on record, cannot be left out: `bench.ledger_cost` has them.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import ROOT
from bench.clients.models import environment
from bench.contenders.queue import Queue
from bench.contenders.worker_without import PARTS
from bench.lab import Stub, cpu_s_of
from bench.report.figures import alternating
from bench.report.ratio import paired_ratio
from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

CALLS, IN_FLIGHT = 150, 64
_JOBS, _ANSWERS = "floor:jobs", "floor:answers"


async def work(redis_url: str, base_url: str) -> None:
    """Take jobs and answer them, for ever."""
    import httpx
    from redis.asyncio import Redis

    redis = Redis.from_url(redis_url, socket_timeout=None)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, headers={"authorization": "Bearer sk-bench"}) as http:

        async def some() -> None:
            while True:
                popped = await redis.brpop([_JOBS])
                assert popped is not None, "a pop without a timeout returns with an element"
                answer = await http.post(f"{base_url}/chat/completions", content=popped[1])
                await redis.lpush(_ANSWERS, answer.content)

        print("ready.", flush=True)
        await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


@contextmanager
def floor_process(redis_url: str, base_url: str) -> Iterator[ChildProcess]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "bench.floor", redis_url, base_url]
    process = ChildProcess(
        command, log_path=scratch_dir("floor") / "floor.log", cwd=ROOT, env=dict(os.environ)
    )
    process.start()
    try:
        process.wait_for_log("ready.")
        yield process
    finally:
        process.kill()


def floor_round(valkey: ValkeyServer, process: ChildProcess, calls: int) -> float:
    """Milliseconds of CPU a call."""
    request = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"floor"}]}'
    with valkey.client() as redis:
        redis.delete(_ANSWERS)
        before_s = cpu_s_of([process.pid])
        redis.lpush(_JOBS, *[request] * calls)
        wait_until(lambda: redis.llen(_ANSWERS) == calls, 60, "answers")
        return (cpu_s_of([process.pid]) - before_s) / calls * 1000


def worker_round(queue: Queue, calls: int) -> float:
    """Milliseconds of CPU a call."""
    pids = queue.pids()["work"]
    before_s = cpu_s_of(pids)
    queue.do("calls", number=calls, in_flight=IN_FLIGHT, prompt="floor")
    return (cpu_s_of(pids) - before_s) / calls * 1000


def main(rounds: int) -> None:
    """Print both costs and their ratio."""
    stub = Stub()
    stub.start()
    queue = Queue(stub)
    try:
        with (
            ValkeyServer() as valkey,
            floor_process(valkey.url, environment(stub.url)["OPENAI_API_BASE"]) as floor,
        ):
            queue.start()
            floor_round(valkey, floor, CALLS)
            pairs = [_pair(valkey, floor, queue, number) for number in range(rounds)]
    finally:
        queue.close()
        stub.process.kill()
    floors, workers = (list(column) for column in zip(*pairs, strict=True))
    print(f"{rounds} pairs of {CALLS} calls, {time.strftime('%Y-%m-%d %H:%M')}")
    for name, values in (("floor", floors), ("worker", workers)):
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name:<8} {statistics.median(values):.2f} ms of CPU a call ({spread})")
    print(f"worker / floor: {paired_ratio(workers, floors)}")


def _pair(valkey: ValkeyServer, floor: ChildProcess, queue: Queue, number: int) -> tuple[float, float]:
    if number % 2:
        worker_ms = worker_round(queue, CALLS)
        return floor_round(valkey, floor, CALLS), worker_ms
    floor_ms = floor_round(valkey, floor, CALLS)
    return floor_ms, worker_round(queue, CALLS)


class QueueWithout(Queue):
    """A worker that leaves one of `PARTS` out."""

    def __init__(self, stub: Stub, part: str) -> None:
        super().__init__(stub)
        self.part = part

    def worker(self, number: int) -> WorkerProcess:
        node = f"without{number}@localhost"
        command = ["-m", "bench.contenders.worker_without", self.part, "worker", "--name", node]
        return WorkerProcess(
            self.env(),
            command=[*command, "--log-level", "INFO"],
            nodename=node,
            ready_timeout_s=180,
            cwd=ROOT,
        )


def parts(rounds: int) -> None:
    """Print what each part takes of a whole worker's CPU a call."""
    stub = Stub()
    with ExitStack() as stack:
        stack.callback(stub.process.kill)
        stub.start()
        whole, *others = [Queue(stub), *(QueueWithout(stub, part) for part in PARTS)]
        for queue in (whole, *others):
            stack.callback(queue.close)
            queue.start()
        costs: dict[Queue, list[float]] = {queue: [] for queue in (whole, *others)}
        for queue in alternating(tuple(costs), rounds):
            costs[queue].append(worker_round(queue, CALLS))
    print(f"{rounds} rounds of {CALLS} calls each, {time.strftime('%Y-%m-%d %H:%M')}")
    print(f"whole: {statistics.median(costs[whole]):.2f} ms of CPU a call")
    for queue in others:
        ratio = paired_ratio(costs[queue], costs[whole])
        print(f"| {PARTS[queue.part]} | {statistics.median(costs[queue]):.2f} | {ratio} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--parts"]:
        parts(int(sys.argv[2]) if sys.argv[2:] else 25)
    elif len(sys.argv) == 3:
        import uvloop

        uvloop.run(work(sys.argv[1], sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 25)
