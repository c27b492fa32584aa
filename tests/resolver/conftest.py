"""Fixtures of the resolver's tests: a clean environment, and the queue in memory."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue

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
