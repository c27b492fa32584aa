"""This project."""

from __future__ import annotations

from bench.clients.models import CONFIGURED
from bench.contenders.contender import CONCURRENCY, config_file
from bench.contenders.on_redis import OnRedis
from support.workers.worker import WorkerProcess


class Queue(OnRedis):
    name = "llm-queue, 1 worker"
    driver_kind = "queue"

    def env(self) -> dict[str, str]:
        return super().env() | {
            "LLM_QUEUE_REDIS_URL": self.valkey.url,
            "LLM_QUEUE_CONCURRENCY": CONCURRENCY,
        }

    def worker(self, number: int) -> WorkerProcess:
        node = f"bench{number}@localhost"
        command = ["-m", "rustic_ai.llm_queue.worker.cli", "worker", "--name", node, "--log-level", "INFO"]
        return WorkerProcess(self.env(), command=command, nodename=node, ready_timeout_s=180)


class TwoWorkers(Queue):
    name = "llm-queue, 2 workers"
    worker_count = 2


class QueueWithConfig(Queue):
    name = "llm-queue with a LiteLLM config"

    def env(self) -> dict[str, str]:
        return super().env() | {"LLM_QUEUE_LITELLM_CONFIG": str(config_file(self.stub.url))}

    def warm_up(self) -> None:
        self.do("calls", number=100, in_flight=20, prompt="warm up", model=f"{CONFIGURED}openai")
