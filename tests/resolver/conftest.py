"""Fixtures of the resolver's tests: a clean environment, the queue in memory, and client engines."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.servers.valkey import ValkeyServer

MakeLLM = Callable[..., QueueLLM]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's own."""
    for name in list(os.environ):
        if name.startswith("LLM_QUEUE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def queue() -> Iterator[InMemoryQueue]:
    """Serves every call of the test's."""
    with InMemoryQueue() as queue:
        yield queue


@pytest.fixture
def make_llm() -> MakeLLM:
    """The LLM of agent `a`, by its resolver's properties."""

    def make(agent: str = "a", **properties: Any) -> QueueLLM:
        llm = QueueLLMResolver(**{"model": "gpt-4", **properties}).get_or_resolve("org", "guild", agent)
        assert isinstance(llm, QueueLLM)
        return llm

    return make


@pytest.fixture
def engine(redis_url: str) -> Iterator[Engine]:
    """A client engine on the test's database."""
    engine = Engine(QueueSettings(redis_url=redis_url))
    yield engine
    engine.close()


@pytest.fixture
def own_engine(own_valkey: ValkeyServer) -> Iterator[Engine]:
    """One on a server that the test may restart or freeze."""
    engine = Engine(QueueSettings(redis_url=own_valkey.url, redis_timeout=timedelta(seconds=2)))
    yield engine
    engine.close()
