"""The caller's side: submits that are cut short, and servers of every kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.callers import Callers
from faults.checker import assert_promises
from faults.history import Ending
from faults.scene import Scene
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.certificate import make_certificate
from support.servers.proxy import TcpProxy
from support.servers.sentinel import SentinelCluster
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery

pytestmark = pytest.mark.timeout(120)


@contextmanager
def other_callers(scene: Scene, url: str) -> Iterator[Callers]:
    with Callers(url) as callers:
        scene.callers.close()
        scene.callers = callers
        yield callers


def test_a_submit_that_never_arrived_is_sent_again(scene: Scene) -> None:
    scene.start_worker()
    with TcpProxy(scene.server.port) as proxy, other_callers(scene, proxy.redis_url) as callers:
        proxy.stall_on = b"_submit"
        callers.ask(3, "q")
        # Submits that come together go out in one write.
        wait_until(lambda: proxy.stalled, 10, "the submits to get stuck")
        proxy.stall_on = None
        proxy.cut()
        verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (3, 3)


def test_a_submit_whose_reply_was_lost_is_one_job(scene: Scene) -> None:
    with TcpProxy(scene.server.port) as proxy, other_callers(scene, proxy.redis_url) as callers:
        callers.ask(1, "first")
        # Once its connection is idle, its reply has come, and the next submit takes that connection.
        wait_until(lambda: _rests_after_a_submit(scene), 10, "the first submit's connection to be idle")
        proxy.latency_s = 0.5
        callers.ask(1, "q")
        wait_until(lambda: scene.waiting() == 2, 10, "the submit to arrive")
        proxy.cut()
        proxy.latency_s = 0.0
        scene.start_worker()
        history = scene.history()
    verdict = assert_promises(history)
    assert (verdict.answered, verdict.requests, len(history.jobs)) == (2, 2, 2)


def _rests_after_a_submit(scene: Scene) -> bool:
    # After a submit the process also looks whether its job is still on record.
    connections = scene.server.connections()
    resting = any(one["cmd"] in ("fcall", "get", "hget") and int(one["idle"]) >= 1 for one in connections)
    return scene.waiting() == 1 and resting


@pytest.fixture
def cluster() -> Iterator[SentinelCluster]:
    """A master, a replica and three Sentinels."""
    with SentinelCluster(down_after_s=1.0) as cluster:
        yield cluster


@pytest.fixture
def sentinel_scene(cluster: SentinelCluster, provider: ProviderStub, nursery: Nursery) -> Iterator[Scene]:
    """A scene on the cluster."""
    with Callers(cluster.url) as callers:
        scene = Scene(cluster.master, provider, nursery, callers, url=cluster.url)
        yield scene
        for worker in scene.workers:
            worker.kill()


def test_workers_and_callers_outlive_a_sentinel_failover(
    sentinel_scene: Scene, cluster: SentinelCluster
) -> None:
    scene = sentinel_scene
    scene.provider.plan("*", Step(hold=True, times=20))
    scene.start_worker()
    scene.start_worker()
    scene.callers.ask(20, "before")
    scene.wait_running(20)
    wait_until(lambda: cluster.replica.client().exists("llmq:leases"), 10, "the replica to be in step")
    scene.server = cluster.failover()
    scene.provider.release()
    scene.callers.ask(10, "after")
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (30, 30)


def test_what_a_failover_loses_is_brought_back(sentinel_scene: Scene, cluster: SentinelCluster) -> None:
    scene = sentinel_scene
    scene.provider.plan("*", Step(hold=True, times=5))
    scene.start_worker()
    replica = cluster.replica
    replica.kill()
    scene.callers.ask(5, "q")
    scene.wait_running(5)
    cluster.master.kill()
    replica.start()
    scene.server = replica
    wait_until(lambda: cluster.master is replica, 30, "the Sentinels to make the replica the master")
    scene.until(lambda: scene.running() == 5, "the jobs to be back")
    scene.provider.release()
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (5, 5)
    assert not any(call.possible_duplicate_charge for call in scene.callers.calls)


def test_over_tls(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    with TcpProxy(scene.server.port, certificate=certificate) as proxy:
        url = f"{proxy.redis_url}?ssl_ca_certs={certificate.ca_path}"
        scene.start_worker(url=url)
        with other_callers(scene, url) as callers:
            callers.ask(5, "q")
            verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (5, 5)


#: Neither may do what is dangerous to others; a function's own commands count as its caller's.
ACL = (
    "user default off",
    "user agent on >agentpw ~llmq:* ~celery-task-meta-* ~llm resetchannels &celery-task-meta-* &llmq:* "
    "+@connection +@read +@write +@pubsub +@transaction +time +fcall +function|load -@dangerous",
    "user worker on >workerpw ~* &* +@all -@dangerous +function|load +info",
)


def test_acl_users(provider: ProviderStub, nursery: Nursery) -> None:
    with (
        ValkeyServer(append_only=True, acl=ACL) as server,
        Callers(server.url_for("agent", "agentpw")) as callers,
    ):
        scene = Scene(server, provider, nursery, callers, url=server.url_for("worker", "workerpw"))
        scene.start_worker()
        callers.ask(5, "q")
        verdict = assert_promises(scene.history())
        for worker in scene.workers:
            worker.kill()
    assert (verdict.answered, verdict.requests) == (5, 5)


REFUSED: frozenset[Ending] = frozenset({"refused"})


def test_a_refused_submit_is_cancelled_should_it_have_been_written(scene: Scene) -> None:
    with TcpProxy(scene.server.port) as proxy, other_callers(scene, proxy.redis_url) as callers:
        callers.ask(1, "warm", may_end=frozenset({"answered"}))
        wait_until(lambda: scene.waiting() == 1, 10, "the first job")
        proxy.latency_s = 10.0  # it arrives, and its caller does not hear of it in time
        callers.ask(1, "late", may_end=REFUSED)
        wait_until(lambda: callers.calls[1].ended_at, 10, "the refusal")
        proxy.latency_s = 0.0
        proxy.cut()
        scene.start_worker()
        history = scene.history()
    verdict = assert_promises(history)
    assert verdict.requests == 1
