"""One worker with very many calls in flight: `python -m bench.many_in_flight [--calls 20000] [--held-s 60]`.

The provider, in its own process, answers nothing until all calls are open and have been held for a while.
Shows whether all were answered, once each; memory a call; how late the worker's event loop ran meanwhile; and
how much of its lease the job had left whose renewal was the latest. Each call is an open file of the worker
(`ulimit -Hn`).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis import Redis

from bench.clients.models import environment
from bench.contenders.queue import Queue
from bench.lab import Stub, use_of
from bench.report.figures import percentile
from rustic_ai.llm_queue.tasks.ledger import keys
from support.servers.ports import free_port

_LAG = "llm_queue_loop_lag_seconds "
_SAMPLE_S = 0.5
_LEASE_S = 15.0


class LargeWorker(Queue):
    """A worker with room for all calls, and metrics."""

    name = "llm-queue, 1 large worker"

    def __init__(self, stub: Stub, calls: int) -> None:
        super().__init__(stub)
        self._calls = calls
        self.metrics_port = free_port()

    def env(self) -> dict[str, str]:
        room = str(self._calls + 500)
        return (
            super().env()
            | environment(self.stub.url)
            | {
                "LLM_QUEUE_CONCURRENCY": room,
                "LLM_QUEUE_METRICS_PORT": str(self.metrics_port),
                "LLM_QUEUE_LEASE": f"{_LEASE_S:g}s",
                "AIOHTTP_CONNECTOR_LIMIT": room,
                "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": room,
            }
        )

    def lag_s(self) -> float:
        """How late the worker's loop ran when it last looked."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        return next(float(line.removeprefix(_LAG)) for line in lines if line.startswith(_LAG))


@dataclass
class Watch:
    """Samples of the worker and of its leases."""

    lags_s: list[float] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)

    def sample(self, worker: LargeWorker, redis: Redis) -> None:
        self.lags_s.append(worker.lag_s())
        seconds, microseconds = redis.time()
        first = redis.zrange(keys.LEASES, 0, 0, withscores=True)
        if first:
            self.left_s.append(float(first[0][1]) / 1000 - int(seconds) - int(microseconds) / 1e6)
        time.sleep(_SAMPLE_S)

    def show(self, when: str) -> None:
        p50, p99 = (percentile(self.lags_s, share) * 1000 for share in (0.5, 0.99))
        print(f"{when}: loop lag p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(self.lags_s)} samples; ", end="")
        print(f"the latest renewal left {min(self.left_s):.1f} s of a lease of {_LEASE_S:g} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.many_in_flight", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--held-s", type=float, default=60.0, help="how long all are open")
    options = parser.parse_args(arguments)
    stub = Stub()
    worker = LargeWorker(stub, options.calls)
    try:
        stub.start()
        worker.start()
        _measure(worker, options.calls, options.held_s)
    finally:
        worker.close()
        stub.process.kill()
    return 0


def _measure(worker: LargeWorker, calls: int, held_s: float) -> None:
    pids = worker.pids()["work"]
    idle, served = use_of(pids).memory, worker.stub.stats()["served"]
    filling, holding = Watch(), Watch()
    with worker.valkey.client() as redis:
        began = time.monotonic()
        worker.do("begin", number=calls, prompt="hold=1")
        while worker.stub.stats()["open"] < calls:
            filling.sample(worker, redis)
        print(f"{calls:,} calls open after {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        while time.monotonic() < began + held_s:
            holding.sample(worker, redis)
        full = use_of(pids)
        worker.stub.release()
        worker.do("finish")
    print(f"all answered, {worker.stub.stats()['served'] - served:,} calls of the provider")
    print(f"memory: {idle / 1e6:.0f} MB idle, {full.memory / 1e6:.0f} MB full: ", end="")
    print(f"{(full.memory - idle) / calls / 1e3:.1f} kB a call, {full.threads} threads")
    filling.show("while they came in")
    holding.show(f"while all were open, {held_s:g} s")


if __name__ == "__main__":
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    sys.exit(main())
