"""Every test here runs twice: on the queue in memory, and on real parts."""

from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.resolver.testing.process_queue import close_memory_queues
from support.callers.behaviour import Backend, MemoryBackend, RedisBackend
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess

QUEUE = "behaviour"


@pytest.fixture(scope="session")
def behaviour_worker(
    valkey: ValkeyServer,
    provider_stub_process: ProviderStub,
    tmp_path_factory: pytest.TempPathFactory,
    nursery: Nursery,
) -> Iterator[WorkerProcess]:
    """A worker with limits that a test can reach."""
    env = {
        **provider_stub_process.env(),
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_QUEUE": QUEUE,
        "LLM_QUEUE_ALLOWED_MODELS": "openai/gpt-*,openai/our-*",
        "LLM_QUEUE_RETRY_BASE": "50ms",
        "LLM_QUEUE_REAP_EVERY": "200ms",
        "LLM_QUEUE_STREAM_IDLE": "2s",
        "LLM_QUEUE_STREAM_MAX_BYTES": "50000",
    }
    with NurseryWorker(nursery, env, log_path=tmp_path_factory.mktemp("worker") / "worker.log") as process:
        yield process


@pytest.fixture(params=["memory", "redis"])
def backend(
    request: pytest.FixtureRequest,
    redis_url: str,
    provider: ProviderStub,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Backend]:
    """Where the test's calls go, with nothing scripted and nothing on record."""
    if request.param == "memory":
        monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "memory://?otherwise=a+healthy+answer")
        yield MemoryBackend()
        close_memory_queues()
        return
    request.getfixturevalue("behaviour_worker")
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    monkeypatch.setenv("LLM_QUEUE_QUEUE", QUEUE)
    yield RedisBackend(provider)
