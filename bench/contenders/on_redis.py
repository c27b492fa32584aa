"""A client, a Redis and workers."""

from __future__ import annotations

from bench.contenders.contender import Contender
from bench.lab import Stub
from support.processes.process import ChildProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess


class OnRedis(Contender):
    """A client, a Redis of its own and workers on it."""

    worker_count = 1

    def __init__(self, stub: Stub) -> None:
        super().__init__(stub)
        self.valkey = ValkeyServer()
        self.workers: list[ChildProcess] = []

    def serve(self) -> None:
        self.valkey.start()
        self.workers = [self.worker(number) for number in range(self.worker_count)]
        for worker in self.workers:
            worker.start() if not isinstance(worker, WorkerProcess) else worker.launch()
        for worker in self.workers:
            if isinstance(worker, WorkerProcess):
                worker.wait_ready()

    def worker(self, number: int) -> ChildProcess:
        raise NotImplementedError

    def pids(self) -> dict[str, list[int]]:
        return super().pids() | {
            "work": [worker.pid for worker in self.workers],
            "redis": [self.valkey.process.pid],
        }

    def close(self) -> None:
        super().close()
        for worker in self.workers:
            worker.kill()
        self.valkey.close()
