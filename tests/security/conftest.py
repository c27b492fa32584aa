"""One hardened queue for all tests of what attackers gain."""

from collections.abc import Iterator
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.callers.llm import MakeLLM
from support.processes.leaks import assert_no_lasting_keys
from support.providers.provider import ProviderStub
from support.servers.fortress import Fortress, built_fortress


@pytest.fixture(scope="session")
def fortress_process(
    provider_stub_process: ProviderStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fortress]:
    """The session's; use `fortress`."""
    with built_fortress(provider_stub_process, tmp_path_factory.mktemp("fortress")) as built:
        yield built


@pytest.fixture
def fortress(fortress_process: Fortress, provider: ProviderStub) -> Iterator[Fortress]:
    """A hardened queue that works. Do not kill its parts. What is left in it runs out by itself."""
    yield fortress_process
    with fortress_process.server.client() as client:
        assert_no_lasting_keys(client)


@pytest.fixture
def agent_settings(fortress: Fortress, monkeypatch: pytest.MonkeyPatch) -> QueueSettings:
    """What an agent's process has."""
    for name, value in fortress.env("agent").items():
        monkeypatch.setenv(name, value)
    return QueueSettings()


@pytest.fixture
def engine(agent_settings: QueueSettings) -> Engine:
    """An agent's connections, for jobs made by hand."""
    return Engine.shared(agent_settings)


@pytest.fixture
def llm(agent_settings: QueueSettings) -> MakeLLM:
    """A function from properties to an agent's `QueueLLM`."""

    def make(*owner: str, **properties: Any) -> QueueLLM:
        resolver = QueueLLMResolver(**{"model": "openai/gpt-4o-mini", **properties})
        return resolver.resolve(*(owner or ("acme", "support", "helper")))

    return make
