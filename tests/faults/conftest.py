"""Fixtures of the fault tests: workers on a server of the test's own, forked where LiteLLM is loaded."""

from collections.abc import Iterator

import pytest

from faults.callers import Callers
from faults.scene import Scene
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery


@pytest.fixture
def scene(own_valkey: ValkeyServer, provider: ProviderStub, nursery: Nursery) -> Iterator[Scene]:
    """A queue on a server of its own (with an append-only file), without workers."""
    with Callers(own_valkey.url) as callers:
        scene = Scene(own_valkey, provider, nursery, callers, url=own_valkey.url)
        yield scene
        scene.end()
