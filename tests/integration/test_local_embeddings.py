"""A real model's embeddings, through a real queue and worker."""

import math
from collections.abc import Iterator

import pytest

from local_model import LocalModelServer
from rustic_ai.llm_queue.resolver import QueueEmbeddingsResolver
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess


@pytest.fixture
def model_server() -> Iterator[LocalModelServer]:
    with LocalModelServer(embeddings=True) as server:
        yield server


def likeness(one: list[float], other: list[float]) -> float:
    return math.sumprod(one, other) / math.sqrt(math.sumprod(one, one) * math.sumprod(other, other))


def test_a_real_models_vectors_tell_what_is_alike(
    valkey: ValkeyServer, model_server: LocalModelServer
) -> None:
    env = {
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_QUEUE": "local-embeddings",
        "LLM_QUEUE_ALLOWED_ENDPOINTS": f"openai={model_server.base_url}",
        "LLM_QUEUE_ALLOWED_HOSTS": "127.0.0.1",
        "OPENAI_API_KEY": "sk-local",
    }
    resolver = QueueEmbeddingsResolver(
        model=f"openai/{model_server.model}",
        base_url=model_server.base_url,
        queue="local-embeddings",
        redis_url=valkey.url,
    )
    with WorkerProcess(env):
        cat, kitten, tax = resolver.resolve("o", "g", "a").embed(
            [
                "The cat sleeps on the warm sofa.",
                "A kitten is asleep on the couch.",
                "Quarterly tax returns are due in April.",
            ]
        )
    assert len(cat) == len(kitten) == len(tax) > 100
    assert likeness(cat, kitten) > likeness(cat, tax)
    assert likeness(cat, kitten) > likeness(kitten, tax)
