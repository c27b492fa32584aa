"""LiteLLM in plain Celery tasks, on each of its pools."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import ROOT
from bench.contenders.on_redis import OnRedis
from bench.contenders.other_venv import OTHER_VENV
from support.workers.worker import WorkerProcess


class _Plain(OnRedis):
    driver_kind = "celery"
    streams = False
    most_in_flight = 100
    pool: tuple[str, ...] = ()
    python = Path(sys.executable)

    def env(self) -> dict[str, str]:
        return super().env() | {"BENCH_REDIS_URL": self.valkey.url}

    def worker(self, number: int) -> WorkerProcess:
        command = ["-m", "celery", "-A", "bench.contenders.plain", "worker", "-l", "INFO", *self.pool]
        worker = WorkerProcess(
            self.env() | {"PYTHONPATH": str(ROOT)}, command=command, cwd=ROOT, ready_timeout_s=180
        )
        worker.command[0] = str(self.python)
        return worker


class Prefork(_Plain):
    name = "Celery, prefork of 4"
    pool = ("-P", "prefork", "-c", "4")
    most_in_flight = 4


class Threads(_Plain):
    name = "Celery, 100 threads"
    pool = ("-P", "threads", "-c", "100")


class Gevent(_Plain):
    name = "Celery, gevent of 100"
    pool = ("-P", "gevent", "-c", "100")
    python = OTHER_VENV / "bin" / "python"


class Nothing(_Plain):
    name = "Celery, no-op"
    driver_kind = "nothing"
    most_in_flight = 0
    pool = ("-P", "threads", "-c", "4")
