"""Vectors that the queue in memory keeps, as the workers do."""

from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueEmbeddings, QueueEmbeddingsResolver, ResponseProcessingError
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.tasks.call import EmbeddingCall


@pytest.fixture
def queue() -> Iterator[InMemoryQueue]:
    with InMemoryQueue() as queue:
        yield queue.embed_with(vector_of)


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0]


def embeddings(agent: str = "agent", **properties: Any) -> QueueEmbeddings:
    return QueueEmbeddingsResolver(**{"cache_ttl_s": 60, **properties}).resolve("org", "guild", agent)


def sent(queue: InMemoryQueue) -> list[tuple[str, ...]]:
    return [call.texts for call in queue.calls if isinstance(call, EmbeddingCall)]


def test_only_what_is_missing_is_asked_for(queue: InMemoryQueue) -> None:
    assert embeddings().embed(["a", "bb"]) == [[1.0, 1.0], [2.0, 1.0]]
    assert embeddings("other").embed(["ccc", "a", "bb"]) == [[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
    assert embeddings().embed(["bb", "a"]) == [[2.0, 1.0], [1.0, 1.0]]
    assert sent(queue) == [("a", "bb"), ("ccc",)]


@pytest.mark.parametrize("other", [{"cache": "no-cache"}, {"cache_scope": "agent"}, {"cache_ttl_s": 0}])
def test_what_may_not_be_shared_is_asked_for(queue: InMemoryQueue, other: dict[str, Any]) -> None:
    embeddings().embed(["a"])
    assert embeddings(**other).embed(["a"]) == [[1.0, 1.0]]
    assert sent(queue) == [("a",), ("a",)]


def test_vectors_of_two_lengths_are_no_answer(queue: InMemoryQueue) -> None:
    embeddings().embed(["a"])
    queue.embed_with(lambda text: [1.0])
    with pytest.raises(ResponseProcessingError, match="another length"):
        embeddings().embed(["a", "bb"])
