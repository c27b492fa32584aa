"""One worker for all integration tests that do no harm to it: a start costs seconds of CPU."""

from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from support.callers.llm import MakeLLM
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A server of their own: the worker on it would meddle with what other tests put in theirs."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def worker(
    valkey: ValkeyServer,
    provider_stub_process: ProviderStub,
    tmp_path_factory: pytest.TempPathFactory,
    nursery: Nursery,
) -> Iterator[WorkerProcess]:
    """The session's worker, in which LiteLLM finds all providers at the simulator. Do not kill it."""
    env = {
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_RETRY_BASE": "50ms",
        "LLM_QUEUE_RETRY_CAP": "500ms",
        **provider_stub_process.env(),
    }
    process = NurseryWorker(nursery, env, log_path=tmp_path_factory.mktemp("worker") / "worker.log")
    with process:
        yield process


@pytest.fixture
def llm(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> MakeLLM:
    """A function from properties to an agent's `QueueLLM`."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)

    def make(**properties: Any) -> QueueLLM:
        resolver = QueueLLMResolver(**{"model": "openai/gpt-4o-mini", **properties})
        return resolver.resolve("acme", "support", "helper")

    return make
