"""Sentinel with a password of its own, and TLS to it and to the master it names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver import QueueLLMResolver, QueueUnavailable
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub
from support.servers.certificate import Certificate, make_certificate
from support.servers.either_proxy import EitherProxy
from support.servers.proxy import TcpProxy
from support.servers.sentinel import MASTER_NAME, SentinelProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

PASSWORD = "of-the-sentinel"  # of a server on loopback that lives for a test


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def master(certificate: Certificate) -> Iterator[EitherProxy]:
    with ValkeyServer() as server, EitherProxy(server.port, certificate) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def sentinel(
    master: EitherProxy, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TcpProxy]:
    directory = tmp_path_factory.mktemp("sentinel")
    process = SentinelProcess(directory, 0, master.port, 5.0, more=f"requirepass {PASSWORD}\n")
    process.start()
    try:
        with TcpProxy(process.port, certificate=certificate) as proxy:
            wait_until(lambda: "+monitor master" in process.log_tail(), 15, "the Sentinel to know its master")
            yield proxy
    finally:
        process.kill()


@pytest.fixture
def url(sentinel: TcpProxy, certificate: Certificate) -> str:
    options = f"master={MASTER_NAME}&tls=1&ssl_ca_certs={certificate.ca_path}&sentinel_password={PASSWORD}"
    return f"sentinel://127.0.0.1:{sentinel.port}/0?{options}"


def test_a_job_goes_by_sentinel_and_tls_all_the_way(
    url: str, master: EitherProxy, sentinel: TcpProxy, provider: ProviderStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**provider.env(), "LLM_QUEUE_REDIS_URL": url}
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", url)
    by_the_sentinel = master.plain
    with WorkerProcess(env):
        llm = QueueLLMResolver(model="openai/gpt-4o-mini", timeout=30).resolve("o", "g", "a")
        assert llm.completion(ask("by way of a Sentinel")).choices
        assert sentinel.accepted
        assert master.tls_proxy.connections
        # It keeps one connection for commands and one for pub/sub.
        assert master.plain <= max(by_the_sentinel, 2), "somebody spoke in plain text"


async def test_a_sentinel_of_another_authority_is_not_believed(
    url: str, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = url.replace(str(certificate.ca_path), str(make_certificate(tmp_path).ca_path))
    with pytest.raises(Exception, match="No master found"):
        await connect(other, outage_s=0).ping()
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", other)
    monkeypatch.setenv("LLM_QUEUE_REDIS_TIMEOUT", "1s")
    with pytest.raises(QueueUnavailable):
        QueueLLMResolver(model="m").resolve("o", "g", "a").submit(ask("Hi"))
