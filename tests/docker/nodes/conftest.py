"""pytest-celery's nodes as containers, in place of the processes of `tests/conftest.py`."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryWorkerCluster,
    RedisTestBackend,
    RedisTestBroker,
)
from pytest_docker_tools import container, fxtr

from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.containers.celery_containers import (
    LlmQueueWorkerContainer,
    ValkeyContainer,
    WorkerContainerNode,
)
from support.containers.simulator import COMMAND, ENVIRONMENT, MOUNT, PORT, client_of
from support.documents.deployment import default_image
from support.providers.provider_client import ProviderClient
from support.servers.ports import free_port
from support.workers.celery_cases import QUICK_LEASE


@pytest.fixture(scope="session")
def valkey_image() -> str:
    return os.environ.get("VALKEY_IMAGE") or default_image("VALKEY_IMAGE")


@pytest.fixture
def valkey_ports() -> dict[str, int]:
    """A port of its own, which it keeps through a restart."""
    return {"6379/tcp": free_port()}


@pytest.fixture
def simulator_ports() -> dict[str, int]:
    return {f"{PORT}/tcp": free_port()}


valkey_node = container(
    image="{valkey_image}",
    ports=fxtr("valkey_ports"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=ValkeyContainer,
    timeout=60,
    command=ValkeyContainer.command(),
)

simulator_node = container(
    image="{image}",
    entrypoint=COMMAND,
    environment=ENVIRONMENT,
    volumes={MOUNT[0]: {"bind": MOUNT[1], "mode": "ro"}},
    ports=fxtr("simulator_ports"),
    network="{default_pytest_celery_network.name}",
    timeout=60,
)


@pytest.fixture
def provider(simulator_node: Any, simulator_ports: dict[str, int]) -> Iterator[ProviderClient]:
    """The simulator; it listens once its log says so."""
    (port,) = simulator_ports.values()
    client = client_of(port, simulator_node.attrs["Config"]["Hostname"])
    yield client
    client.close()


@pytest.fixture
def worker_node_env(valkey_node: ValkeyContainer, provider: ProviderClient) -> dict[str, str]:
    return {"LLM_QUEUE_REDIS_URL": valkey_node.url, **provider.env(), **QUICK_LEASE}


worker_node = container(
    image="{image}",
    environment=fxtr("worker_node_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=LlmQueueWorkerContainer,
    timeout=90,
    command=LlmQueueWorkerContainer.command(),
    read_only=True,
    cap_drop=["ALL"],
    tmpfs={"/tmp": "mode=1777"},
)


@pytest.fixture
def celery_broker_cluster(valkey_node: ValkeyContainer) -> Iterator[CeleryBrokerCluster]:
    cluster = CeleryBrokerCluster(RedisTestBroker(valkey_node))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(valkey_node: ValkeyContainer) -> Iterator[CeleryBackendCluster]:
    cluster = CeleryBackendCluster(RedisTestBackend(valkey_node))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_setup_app(valkey_node: ValkeyContainer) -> Iterator[Celery]:
    url = valkey_node.host_url
    app = make_celery_app(QueueSettings(redis_url=url), result_backend=url)
    yield app
    app.close()


@pytest.fixture
def celery_worker_cluster(
    worker_node: LlmQueueWorkerContainer, celery_setup_app: Celery
) -> Iterator[CeleryWorkerCluster]:
    cluster = CeleryWorkerCluster(WorkerContainerNode(worker_node, app=celery_setup_app))
    yield cluster
    cluster.teardown()
