"""The ledger on a cluster whose slot moves, and what has to be asked of all nodes."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import TryAgainError

from rustic_ai.llm_queue.tasks.connection.cluster_mode import count_subscribers
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.functions.library import library_name
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.processes.wait import async_wait_until
from support.servers.certificate import make_certificate
from support.servers.cluster import TAG, ValkeyCluster
from support.servers.proxy import TcpProxy
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import TTL, a_job

PREFIX = f"{{{TAG}}}"
META = json.dumps({"status": "SUCCESS"})
LEASE = timedelta(seconds=30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


@pytest.fixture
async def redis(cluster: ValkeyCluster) -> AsyncIterator[Redis]:
    """A client that tries a command for so long as a slot may take to move."""
    async with connect(cluster.url, outage_s=10, key_tag=TAG) as client:
        yield client


@contextmanager
def half_moved(cluster: ValkeyCluster, to: ValkeyServer, *moved: str) -> Iterator[None]:
    """The slot on its way to another node, of its keys only these there; then it moves whole."""
    source = cluster.owner
    with source.client() as old, to.client() as new:
        ids = [str(one.execute_command("CLUSTER MYID")) for one in (old, new)]
        new.execute_command("CLUSTER SETSLOT", cluster.slot, "IMPORTING", ids[0])
        old.execute_command("CLUSTER SETSLOT", cluster.slot, "MIGRATING", ids[1])
        old.execute_command("MIGRATE", to.host, to.port, "", 0, 5_000, "KEYS", *moved)
    yield
    cluster.move_slot(to)


async def test_a_job_is_not_ended_by_half_while_the_slot_moves(cluster: ValkeyCluster, redis: Redis) -> None:
    ledger, job = Ledger(redis, result_ttl=TTL), a_job()
    await ledger.submit(job)
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    record = await redis.hgetall(keys.job_key(job.id))
    async with connect(cluster.url, outage_s=0, key_tag=TAG) as at_once:
        impatient = Ledger(at_once, result_ttl=TTL)
        await impatient.now_ms()
        with half_moved(cluster, cluster.others[0], f"{PREFIX}{keys.LEASES}"):
            with pytest.raises(TryAgainError):
                await impatient.finish(job.id, claim.epoch, JobState.ANSWERED, META, attempts=())
            with pytest.raises(TryAgainError):
                await impatient.submit(a_job())
            assert await redis.hgetall(keys.job_key(job.id)) == record, "nothing of it was done"
    assert await ledger.finish(job.id, claim.epoch, JobState.ANSWERED, META, attempts=()) == "done"
    assert await redis.get(keys.result_key(job.id)) == META


async def test_a_call_waits_until_the_slot_has_moved(cluster: ValkeyCluster, redis: Redis) -> None:
    ledger, first = Ledger(redis, result_ttl=TTL), a_job()
    await ledger.submit(first)
    to = cluster.others[0]
    cluster.move_slot(to)
    second = a_job()
    assert await ledger.submit(second) == ("created", second.id)
    assert await ledger.record(first.id) is not None
    with to.client() as client:
        assert client.exists(f"{PREFIX}{keys.job_key(second.id)}")


async def test_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with ValkeyCluster() as cluster, ExitStack() as stack:
        for server in cluster.servers:
            proxy = stack.enter_context(TcpProxy(server.port, certificate=certificate))
            with server.client() as client:
                # Nodes name the proxies: that is where clients go, and where moved slots are.
                client.config_set("cluster-announce-port", proxy.port)
        url = f"rediss+cluster://127.0.0.1:{proxy.port}?ssl_ca_certs={certificate.ca_path}"
        async with connect(url, outage_s=10, key_tag=TAG) as redis:
            job = a_job()
            assert await Ledger(redis, result_ttl=TTL).submit(job) == ("created", job.id)
        app = make_celery_app(QueueSettings(redis_url=url, key_tag=TAG))
        with app.connection_for_read() as connection:
            message = connection.SimpleQueue("llm").get(timeout=10)
            assert message.headers["id"] == job.id


async def test_functions_are_on_every_primary(cluster: ValkeyCluster, redis: Redis) -> None:
    await Ledger(redis, result_ttl=TTL).load()
    for server in cluster.servers:
        with server.client() as client:
            assert library_name(PREFIX) in str(client.function_list()), server


async def test_subscribers_count_on_whatever_node_they_are(cluster: ValkeyCluster, redis: Redis) -> None:
    subscriber = redis.pubsub()
    await subscriber.subscribe("channel")
    cluster.move_slot(cluster.others[0])
    await redis.set("moved", 1, px=1000)  # so that this client has followed

    async def counted() -> bool:
        return await count_subscribers(redis, ["channel", "nobody"]) == {"channel": 1, "nobody": 0}

    await async_wait_until(counted, 5, "the subscriber to be counted")
    assert dict(cast("list[tuple[str, int]]", await redis.pubsub_numsub("channel"))) == {"channel": 0}
    await subscriber.aclose()
