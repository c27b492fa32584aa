"""Redis over TLS: both sides speak it to a server they trust, and to no other."""

from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from rustic_ai.llm_queue.resolver import QueueLLMResolver, QueueUnavailable
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.worker.celery_app.factory import make_worker_app
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.callers.llm import MakeLLM, ask
from support.servers.certificate import make_certificate
from support.servers.fortress import Fortress, tls_url


@pytest.fixture
def distrusting_url(fortress: Fortress, tmp_path: Path) -> str:
    """A worker's URL that trusts another authority than the one that signed the server's certificate."""
    return tls_url(fortress.proxy, make_certificate(tmp_path), "worker")


def test_a_job_goes_over_tls_all_the_way(fortress: Fortress, llm: MakeLLM) -> None:
    before = fortress.proxy.accepted
    assert llm().completion(ask("over TLS"))
    assert fortress.proxy.accepted > before, "the agent came through the proxy that ends TLS"
    assert fortress.url("agent").startswith("rediss://")


def test_an_agent_refuses_a_server_of_another_authority(
    distrusting_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", distrusting_url)
    monkeypatch.setenv("LLM_QUEUE_REDIS_TIMEOUT", "1s")
    with pytest.raises(QueueUnavailable):
        QueueLLMResolver(model="m").resolve("o", "g", "a").submit(ask("Hi"))


async def test_a_worker_refuses_a_server_of_another_authority(distrusting_url: str) -> None:
    with pytest.raises(RedisConnectionError, match="certificate"):
        await connect(distrusting_url, outage_s=0).ping()
    app = make_worker_app(WorkerSettings(redis_url=distrusting_url))
    try:
        with app.connection_for_read() as broker, pytest.raises(Exception, match="certificate"):
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=5)
    finally:
        app.close()


async def test_a_plain_connection_gets_nowhere(fortress: Fortress) -> None:
    plain = fortress.url("agent").replace("rediss://", "redis://").partition("?")[0]
    with pytest.raises((RedisConnectionError, OSError)):
        await connect(plain, outage_s=0, socket_timeout=2).ping()
