"""Fixtures of the tests of one job's way: a worker's parts on the session's server, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer, make_key
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer

if TYPE_CHECKING:
    from support.workers.job_kit import JobKit

MakeKit = Callable[..., "JobKit"]


@pytest.fixture
async def make_kit(
    valkey: ValkeyServer, provider: ProviderStub, provider_keys: None
) -> AsyncIterator[MakeKit]:
    """A function that makes a worker's parts, with settings of its own."""
    from support.workers.job_kit import JobKit

    kits: list[JobKit] = []
    sealer = Sealer(KeyRing.parse(make_key()))

    def make(server: ValkeyServer = valkey, **settings: object) -> JobKit:
        kits.append(JobKit(server, provider, f"w{len(kits) + 1}", sealer, **settings))
        return kits[-1]

    yield make
    for kit in kits:
        await kit.close()


@pytest.fixture
def kit(make_kit: MakeKit) -> JobKit:
    """One worker's parts, with the settings of production but for short pauses."""
    return make_kit()
