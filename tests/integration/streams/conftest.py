"""A sealed queue of the stream tests' own, with limits that a test can reach."""

from collections.abc import Iterator
from typing import Any

import pytest

from local_model import LocalModelServer
from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.tasks.privacy.seal import make_key
from support.callers.llm import MakeLLM
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess

#: Far longer than a busy machine keeps 200 streams waiting.
IDLE_S = 3.0
MAX_BYTES = 2_000_000
QUEUE = {"LLM_QUEUE_QUEUE": "streams", "LLM_QUEUE_SEALING_KEYS": make_key()}


@pytest.fixture(scope="session")
def stream_worker(
    valkey: ValkeyServer,
    provider_stub_process: ProviderStub,
    local_model_server: LocalModelServer,
    tmp_path_factory: pytest.TempPathFactory,
    nursery: Nursery,
) -> Iterator[WorkerProcess]:
    """The worker of all tests here. Do not kill it."""
    env = {
        **provider_stub_process.env(),
        **QUEUE,
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_ALLOWED_ENDPOINTS": f"openai={local_model_server.base_url}",
        "LLM_QUEUE_ALLOWED_HOSTS": "127.0.0.1",
        "LLM_QUEUE_RETRY_BASE": "50ms",
        "LLM_QUEUE_STREAM_IDLE": f"{IDLE_S}s",
        "LLM_QUEUE_STREAM_MAX_BYTES": str(MAX_BYTES),
    }
    process = NurseryWorker(nursery, env, log_path=tmp_path_factory.mktemp("worker") / "worker.log")
    with process:
        yield process


@pytest.fixture
def llm(
    redis_url: str, stream_worker: WorkerProcess, provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> MakeLLM:
    """A function from properties to an agent's `QueueLLM`; `url` is another way to the same Redis."""

    def make(url: str | None = None, **properties: Any) -> QueueLLM:
        for name, value in {**QUEUE, "LLM_QUEUE_REDIS_URL": url or redis_url}.items():
            monkeypatch.setenv(name, value)
        resolver = QueueLLMResolver(**{"model": "openai/gpt-4o-mini", **properties})
        return resolver.resolve("acme", "support", "helper")

    return make
