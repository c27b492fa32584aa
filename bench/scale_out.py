"""Eight workers, then four, two and one: `python -m bench.scale_out [--rounds 9]`.

Each worker is held to an eighth of a core, by letting it run for an eighth of each tenth of a second, in turn
with the others. So a machine of few cores has room for eight, their client, Redis and the provider, and what
keeps the rate below eight times one worker's is what the workers cost each other, or share.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contenders.queue import Queue
from bench.lab import Stub
from bench.measures.shares import held
from bench.report.figures import Meter

_SHARE, _TURN_S = 1 / 8, 0.1
#: Twice as many jobs as places: a worker always finds one when it runs, and cannot fill more than its places.
_PLACES, _IN_FLIGHT_EACH, _CALLS_EACH = 32, 64, 80


class EightWorkers(Queue):
    """Workers, of which most are stopped later."""

    name = "llm-queue, 8 workers"
    worker_count = 8

    def env(self) -> dict[str, str]:
        return super().env() | {"LLM_QUEUE_CONCURRENCY": str(_PLACES)}


@dataclass(frozen=True)
class Level:
    """What so many workers did in each round."""

    workers: int
    rates: list[float]
    work_ms: float
    redis_ms: float

    def show(self, one: float) -> None:
        middle = statistics.median(self.rates)
        spread = f"{min(self.rates):.0f} to {max(self.rates):.0f}"
        print(f"| {self.workers} | {middle:.0f} ({spread}) | {middle / one / self.workers:.2f} | ", end="")
        print(f"{self.work_ms:.2f} | {self.redis_ms:.2f} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each number of workers. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale_out", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(arguments).rounds
    stub = Stub()
    queue = EightWorkers(stub)
    levels: list[Level] = []
    try:
        stub.start()
        queue.start()
        while queue.workers:
            levels.append(_measure(queue, rounds))
            half = len(queue.workers) // 2
            for worker in queue.workers[half:]:
                worker.stop()
            del queue.workers[half:]
    finally:
        queue.close()
        stub.process.kill()
    one = statistics.median(levels[-1].rates)
    print("| Workers | Calls/s | of as many times one's | CPU ms a call, workers | Redis |")
    print("|---|---|---|---|---|")
    for level in reversed(levels):
        level.show(one)
    return 0


def _measure(queue: EightWorkers, rounds: int) -> Level:
    count = len(queue.workers)
    calls, rates = _CALLS_EACH * count, []
    meter = Meter(queue)
    for _ in range(rounds):
        with held(queue.workers, _SHARE, _TURN_S):
            reply = queue.do("calls", number=calls, in_flight=_IN_FLIGHT_EACH * count, prompt="scale out")
        rates.append(calls / reply["wall_s"])
    used = meter.used()
    per_call = 1000 / (calls * rounds)
    return Level(count, rates, used["work"] * per_call, used["redis"] * per_call)


if __name__ == "__main__":
    sys.exit(main())
