"""The main job: a guild's agent gets its completion through the queue, on real parts."""

from collections.abc import Callable
from typing import Any

import pytest

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage
from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from support.provider import ProviderStub, Step
from support.worker import WorkerProcess

MakeLLM = Callable[..., QueueLLM]


def ask(text: str, **fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(messages=[UserMessage(content=text)], **fields)


@pytest.fixture
def llm(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> MakeLLM:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)

    def make(**properties: Any) -> QueueLLM:
        resolver = QueueLLMResolver(**{"model": "openai/gpt-4o-mini", **properties})
        return resolver.resolve("acme", "support", "helper")

    return make


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess], redis_url: str, provider: ProviderStub) -> WorkerProcess:
    return start_worker({"LLM_QUEUE_REDIS_URL": redis_url, **provider.env()})


def test_a_completion_goes_through_the_queue(llm: MakeLLM, worker: WorkerProcess, provider: ProviderStub) -> None:
    provider.plan("q1", Step(text="forty-two"))
    response = llm().completion(ask("What is it? #q1"))
    assert response.choices[0].message.content == "forty-two"
    print(response)
    print(worker.logs())
