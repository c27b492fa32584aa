"""pytest-celery's fixtures on process-backed nodes; ``tests/conftest.py`` puts them in force.

A test that takes ``celery_setup`` gets a Valkey server and a worker of its own, which it may kill and
restart through the nodes. What to run is decided by three fixtures that a test module may override:
``celery_worker_env``, ``celery_worker_options`` and ``celery_setup_app``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster

from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.celery_nodes import (
    ValkeyBackend,
    ValkeyBroker,
    ValkeyContainer,
    WorkerContainer,
    WorkerNode,
)


@pytest.fixture
def celery_valkey() -> Iterator[ValkeyContainer]:
    """The server behind broker and backend; keeps its data through a restart."""
    with ValkeyServer(append_only=True) as server:
        yield ValkeyContainer(server)


@pytest.fixture
def celery_broker_cluster(celery_valkey: ValkeyContainer) -> Iterator[CeleryBrokerCluster]:
    """One broker node."""
    cluster = CeleryBrokerCluster(ValkeyBroker(celery_valkey))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(celery_valkey: ValkeyContainer) -> Iterator[CeleryBackendCluster]:
    """One backend node, on the broker's server."""
    cluster = CeleryBackendCluster(ValkeyBackend(celery_valkey))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_worker_env(celery_valkey: ValkeyContainer, provider: ProviderStub) -> dict[str, str | None]:
    """The worker's settings: this test's Redis, and the provider simulator for all providers."""
    return {"LLM_QUEUE_REDIS_URL": celery_valkey.server.url, **provider.env()}


@pytest.fixture
def celery_worker_options() -> dict[str, Any]:
    """More arguments for `WorkerProcess`, such as ``{"args": ["--concurrency", "5"]}``."""
    return {}


@pytest.fixture
def celery_worker_cluster(
    celery_worker_env: dict[str, str | None], celery_worker_options: dict[str, Any], tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """One worker node, taking jobs."""
    log_path = tmp_path / "celery-worker.log"
    container = WorkerContainer(
        celery_worker_env, queue=DEFAULT_QUEUE, log_path=log_path, **celery_worker_options
    )
    node = WorkerNode(container, app=None)
    try:
        container.start()
        yield CeleryWorkerCluster(node)
    finally:
        node.teardown()


@pytest.fixture
def celery_setup_app(celery_valkey: ValkeyContainer) -> Iterator[Celery]:
    """The project's own Celery app, with a result backend to read outcomes."""
    url = celery_valkey.server.url
    app = make_celery_app(QueueSettings(redis_url=url), result_backend=url)
    yield app
    app.close()
