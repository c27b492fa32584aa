"""A network between Redis and its clients that is slow, half-open or gone."""

import time
from collections.abc import Iterator

import pytest

from faults.callers import Callers
from faults.checker import assert_promises
from faults.scene import QUICK_LEASE_S, Scene
from support.providers.provider import Step
from support.servers.proxy import TcpProxy

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def proxy(scene: Scene) -> Iterator[TcpProxy]:
    """In front of the scene's server."""
    with TcpProxy(scene.server.port) as proxy:
        yield proxy


@pytest.fixture
def far_callers(scene: Scene, proxy: TcpProxy) -> Iterator[Callers]:
    """Callers on the other side of the proxy, in the place of the scene's."""
    with Callers(proxy.redis_url) as callers:
        scene.callers.close()
        scene.callers = callers
        yield callers


def test_50_ms_of_latency(scene: Scene, proxy: TcpProxy, far_callers: Callers) -> None:
    proxy.latency_s = 0.05
    scene.provider.plan("*", Step(delay_s=1.0, times=None))
    scene.start_worker(url=proxy.redis_url)
    scene.start_worker(url=proxy.redis_url)
    far_callers.ask(60, "q")
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (60, 60)


def test_connections_that_are_half_open_for_good(scene: Scene, proxy: TcpProxy, far_callers: Callers) -> None:
    scene.provider.plan("*", Step(delay_s=4.0, times=None))
    scene.start_worker(url=proxy.redis_url)
    far_callers.ask(20, "before")
    scene.wait_running(20)
    proxy.strand()
    later = far_callers.ask(10, "later")
    scene.until(lambda: all(call.ended_at for call in later), "the later calls to end", 40)
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (30, 30)


def test_a_worker_cut_off_for_longer_than_its_lease_writes_nothing_when_it_is_back(
    scene: Scene, proxy: TcpProxy
) -> None:
    scene.provider.plan("*", Step(hold=True, times=10))
    alone = scene.start_worker(url=proxy.redis_url)
    scene.callers.ask(10, "q")
    scene.wait_running(10)
    scene.start_worker()
    from_s = time.monotonic()
    proxy.blackhole()
    calls = scene.callers.wait()
    assert time.monotonic() - from_s >= QUICK_LEASE_S
    before = scene.jobs()
    proxy.heal()
    scene.until(lambda: scene.provider.open_calls == 0, "the lost calls to be closed")
    scene.note("frozen", from_s, time.monotonic())
    history = scene.history()
    assert_promises(history)
    assert history.jobs == before
    assert all(call.possible_duplicate_charge for call in calls)
    assert alone.logs().count("is no longer this claim's") == 10
