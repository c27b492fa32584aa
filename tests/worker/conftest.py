"""Fixtures of the worker's tests: the provider simulator's keys, and the attempts of one job against it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.providers.provider import ProviderStub

if TYPE_CHECKING:
    from support.workers.attempt_kit import Bench


@pytest.fixture
def provider_keys(provider: ProviderStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own keys and addresses are the simulator's."""
    for name, value in provider.env().items():
        monkeypatch.setitem(os.environ, name, value)


@pytest.fixture
def bench(provider: ProviderStub, provider_keys: None) -> Bench:
    """Calls of the simulator, with the keys that it expects."""
    # It imports LiteLLM, which the tests of the pool need not wait for.
    from support.workers.attempt_kit import Bench

    return Bench.over(provider)
