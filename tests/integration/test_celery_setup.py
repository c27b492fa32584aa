"""pytest-celery's cases on processes; `tests/docker/nodes` has the same on containers."""

import pytest

from support.providers.provider import ProviderStub
from support.workers.celery_cases import QUICK_LEASE, CeleryCases
from support.workers.celery_nodes import ValkeyContainer


@pytest.fixture
def celery_worker_env(celery_valkey: ValkeyContainer, provider: ProviderStub) -> dict[str, str | None]:
    return {"LLM_QUEUE_REDIS_URL": celery_valkey.server.url, **provider.env(), **QUICK_LEASE}


class TestOnProcesses(CeleryCases):
    """The nodes are a Valkey server and a worker, as processes."""
