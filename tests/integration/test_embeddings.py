"""Embeddings through the queue: an agent's call, a real worker, and the provider simulator."""

from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueEmbeddings, QueueEmbeddingsResolver
from support.providers.provider import ProviderStub
from support.providers.wire.embeddings import derived_vector
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

QUEUE = "embeddings"
MODEL = "openai/text-embedding-3-small"


@pytest.fixture(scope="module")
def worker(
    valkey: ValkeyServer, provider_stub_process: ProviderStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    env = {
        **provider_stub_process.env(),
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_QUEUE": QUEUE,
        "LLM_QUEUE_RETRY_BASE": "50ms",
    }
    with WorkerProcess(env, log_path=tmp_path_factory.mktemp("worker") / "worker.log") as process:
        yield process


def embeddings(redis_url: str, agent: str = "a", **properties: Any) -> QueueEmbeddings:
    resolver = QueueEmbeddingsResolver(
        **{"model_name": MODEL, "queue": QUEUE, "redis_url": redis_url, **properties}
    )
    resolved = resolver.resolve("org", "guild", agent)
    assert isinstance(resolved, QueueEmbeddings)
    return resolved


@pytest.mark.usefixtures("worker")
def test_each_text_has_its_vector(redis_url: str, provider: ProviderStub) -> None:
    found = embeddings(redis_url)
    assert found.embed(["the cat", "the dog"]) == [derived_vector("the cat"), derived_vector("the dog")]
    (request,) = provider.requests()
    assert request.body["input"] == ["the cat", "the dog"]
