"""Fixtures shared by all tests: real parts on loopback. A part that is missing is a failure, not a skip."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.provider import ProviderStub
from support.valkey import ValkeyServer
from support.worker import WorkerProcess

WorkerFactory = Callable[..., WorkerProcess]


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """One server for the session, flushed before each test that uses it. Do not kill it: start your own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(autouse=True)
def clean_redis(request: pytest.FixtureRequest) -> None:
    """Flush the session's server before each test that uses it."""
    if "valkey" in request.fixturenames:
        request.getfixturevalue("valkey").flush()


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """URL of an empty database."""
    return valkey.url


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server of the test's own, with an append-only file, to kill, freeze and restart."""
    with ValkeyServer(append_only=True) as server:
        yield server


@pytest.fixture(scope="session")
def provider_stub_process() -> Iterator[ProviderStub]:
    """The session's provider simulator; use `provider`."""
    with ProviderStub() as stub:
        yield stub


@pytest.fixture
def provider(provider_stub_process: ProviderStub) -> ProviderStub:
    """The provider simulator, with no plan and no request of another test."""
    provider_stub_process.reset()
    return provider_stub_process


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[WorkerFactory]:
    """A function that starts a `WorkerProcess` with its arguments; all are killed at the end."""
    started: list[WorkerProcess] = []

    def start(*args: Any, wait: bool = True, **kwargs: Any) -> WorkerProcess:
        kwargs.setdefault("log_path", tmp_path / f"worker-{len(started)}.log")
        worker = WorkerProcess(*args, **kwargs)
        started.append(worker)
        worker.launch()
        if wait:
            worker.wait_ready()
        return worker

    yield start
    for worker in started:
        worker.kill()
