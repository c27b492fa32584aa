"""From starting a worker to its first answer, with a job waiting for it, beside LiteLLM's bare import."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.contenders.queue import Queue, TwoWorkers
from bench.lab import cpu_s_of
from bench.report.figures import Figures, Sizes, Spread


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Seconds of wall and CPU time, of the worker and of a process that imports LiteLLM and ends."""
    return {
        contender.name: _measure(contender, min(sizes.rounds, 5))
        for contender in contenders
        if isinstance(contender, Queue) and not isinstance(contender, TwoWorkers)
    }


def _measure(contender: Queue, rounds: int) -> dict[str, object]:
    spreads = {name: Spread() for name in _NAMES}
    (worker,) = contender.workers
    for _ in range(rounds):
        worker.stop()
        contender.do("begin", number=1, prompt="start-up")
        began = time.perf_counter()
        worker.start()
        contender.do("finish")
        first_s, first_cpu_s = time.perf_counter() - began, cpu_s_of([worker.pid])
        import_s, import_cpu_s = _bare_import(contender.env())
        measured = (first_s, first_cpu_s, import_s, import_cpu_s, first_cpu_s - import_cpu_s)
        for name, value in zip(_NAMES, measured, strict=True):
            spreads[name].add(value)
    return {name: spread.json() for name, spread in spreads.items()}


_NAMES = (
    "first_answer_wall_s",
    "first_answer_cpu_s",
    "litellm_import_wall_s",
    "litellm_import_cpu_s",
    "cpu_s_beyond_the_import",
)


def _bare_import(env: dict[str, str]) -> tuple[float, float]:
    began, before = time.perf_counter(), _children_cpu_s()
    subprocess.run([sys.executable, "-c", "import litellm"], env=os.environ | env, check=True)
    return time.perf_counter() - began, _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
