"""Fixtures shared by all tests: real parts on loopback. A part that is missing is a failure, not a skip."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.processes.interrupts import heed_interrupts
from support.processes.leaks import assert_no_lasting_keys, assert_no_new_threads
from support.providers.llmock_process import LlmockProcess
from support.providers.model_server import LocalModelServer, model_server
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.celery_fixtures import (
    celery_backend_cluster,
    celery_broker_cluster,
    celery_setup_app,
    celery_valkey,
    celery_worker_cluster,
    celery_worker_env,
    celery_worker_options,
)
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess

# As every worker has it: tests may import LiteLLM first, which would look for its price list for 10 s.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# Each of the many workers would compile LiteLLM anew: half of the 10 s of CPU that its import takes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Fixtures are found by name in this module.
__all__ = [
    "celery_backend_cluster",
    "celery_broker_cluster",
    "celery_setup_app",
    "celery_valkey",
    "celery_worker_cluster",
    "celery_worker_env",
    "celery_worker_options",
]

heed_interrupts()

WorkerFactory = Callable[..., WorkerProcess]


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """One server for the session, flushed before each test that uses it. Do not kill it: start your own."""
    with ValkeyServer() as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Declare the ways out of the leak checks; each needs a reason."""
    config.addinivalue_line("markers", "leaves_keys(*patterns, reason): keys that may stay without a TTL")
    config.addinivalue_line("markers", "leaves_threads(reason): the test may leave threads behind")


@pytest.fixture(autouse=True)
def clean_redis(request: pytest.FixtureRequest) -> Iterator[None]:
    """An empty server before each test that uses the session's; no key without a TTL after it."""
    if "valkey" not in request.fixturenames:
        yield
        return
    server: ValkeyServer = request.getfixturevalue("valkey")
    server.flush()
    yield
    allowed = [pattern for mark in request.node.iter_markers("leaves_keys") for pattern in mark.args]
    with server.client() as client:
        assert_no_lasting_keys(client, allowed)


@pytest.fixture(autouse=True)
def close_engines(no_leaked_threads: None) -> Iterator[None]:
    """A process keeps its engines; a test starts without."""
    yield
    engine = sys.modules.get("rustic_ai.llm_queue.resolver.client.engine")
    if engine is not None:
        engine.Engine.close_shared()


@pytest.fixture(autouse=True)
def no_leaked_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads are back to where they were once the test and its fixtures are over."""
    before = set(threading.enumerate())
    yield
    if request.node.get_closest_marker("leaves_threads") is None:
        assert_no_new_threads(before)


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


@pytest.fixture(scope="session")
def llmock_session() -> Iterator[LlmockProcess]:
    """The session's llmock; use `llmock_process`."""
    with LlmockProcess() as server:
        yield server


@pytest.fixture
def llmock_process(llmock_session: LlmockProcess) -> LlmockProcess:
    """The simulator that judges its client, with nothing queued and nothing on record."""
    llmock_session.reset()
    return llmock_session


@pytest.fixture(scope="session")
def local_model_server() -> Iterator[LocalModelServer]:
    """The small real model, loaded once for the session."""
    with model_server() as server:
        yield server


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where workers are forked from: their start then costs half a second."""
    with Nursery() as nursery:
        nursery.wait_ready()
        yield nursery


@pytest.fixture
def start_worker(tmp_path: Path, nursery: Nursery) -> Iterator[WorkerFactory]:
    """A function that starts a worker out of the nursery, with a `WorkerProcess`' arguments.

    All are killed at the end. `start_fresh_worker` is for tests of the start itself.
    """
    yield from _workers(tmp_path, partial(NurseryWorker, nursery))


@pytest.fixture
def start_fresh_worker(tmp_path: Path) -> Iterator[WorkerFactory]:
    """A function that starts a `WorkerProcess` as an operator does; all are killed at the end."""
    yield from _workers(tmp_path, WorkerProcess)


def _workers(folder: Path, make: Callable[..., WorkerProcess]) -> Iterator[WorkerFactory]:
    started: list[WorkerProcess] = []

    def start(*args: Any, wait: bool = True, **kwargs: Any) -> WorkerProcess:
        kwargs.setdefault("log_path", folder / f"worker-{len(started)}.log")
        worker = make(*args, **kwargs)
        started.append(worker)
        worker.launch()
        if wait:
            worker.wait_ready()
        return worker

    yield start
    for worker in started:
        worker.kill()
