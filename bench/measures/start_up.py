"""From starting a worker to its first answer, with a job waiting for it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.contenders.queue import Queue, TwoWorkers
from bench.lab import cpu_s_of
from bench.report.figures import Figures, Sizes, Spread


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Seconds of wall and CPU time."""
    return {
        contender.name: _measure(contender, min(sizes.rounds, 3))
        for contender in contenders
        if isinstance(contender, Queue) and not isinstance(contender, TwoWorkers)
    }


def _measure(contender: Queue, rounds: int) -> dict[str, object]:
    wall, cpu = Spread(), Spread()
    (worker,) = contender.workers
    for _ in range(rounds):
        worker.stop()
        contender.do("begin", number=1, prompt="start-up")
        began = time.perf_counter()
        worker.start()
        contender.do("finish")
        wall.add(time.perf_counter() - began)
        cpu.add(cpu_s_of([worker.pid]))
    return {"first_answer_wall_s": wall.json(), "first_answer_cpu_s": cpu.json()}
