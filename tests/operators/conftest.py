"""One worker for the operators' tests, which shows all that a worker can: JSON logs, metrics, traces."""

from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from support.callers.llm import MakeLLM
from support.processes.command import LlmQueue
from support.providers.provider import ProviderStub
from support.servers.collector import Collector
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A server of their own, with an append-only file as an operator's has."""
    with ValkeyServer(append_only=True, config={"maxmemory-policy": "noeviction"}) as server:
        yield server


@pytest.fixture(scope="session")
def metrics_port() -> int:
    """Where the worker shows its metrics."""
    return free_port()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where spans go."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def worker(
    valkey: ValkeyServer,
    metrics_port: int,
    collector: Collector,
    provider_stub_process: ProviderStub,
    tmp_path_factory: pytest.TempPathFactory,
    nursery: Nursery,
) -> Iterator[WorkerProcess]:
    """The worker of these tests. Do not kill it."""
    env = {
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_RETRY_BASE": "50ms",
        "LLM_QUEUE_RETRY_CAP": "500ms",
        "LLM_QUEUE_LOG_FORMAT": "json",
        "LLM_QUEUE_METRICS_PORT": str(metrics_port),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **provider_stub_process.env(),
    }
    process = NurseryWorker(nursery, env, log_path=tmp_path_factory.mktemp("worker") / "worker.log")
    with process:
        yield process


@pytest.fixture
def llm(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> MakeLLM:
    """A function from properties to a `QueueLLM`; `owner` is whose: org, guild and agent."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)

    def make(*owner: str, **properties: Any) -> QueueLLM:
        resolver = QueueLLMResolver(**{"model": "openai/gpt-4o-mini", **properties})
        return resolver.resolve(*(owner or ("acme", "support", "helper")))

    return make


@pytest.fixture
def llm_queue(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> LlmQueue:
    """The `llm-queue` command, with this Redis in its environment."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    return LlmQueue(monkeypatch, capsys)
