"""Redis that is cut off, killed, frozen, full or empty while jobs run: nothing is lost or billed twice."""

import time

import pytest

from faults.callers import Callers
from faults.checker import Verdict, assert_promises
from faults.history import Ending
from faults.scene import QUICK_LEASE_S, Scene
from support.providers.provider import Step
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.timeout(180)

REFUSED_TOO: frozenset[Ending] = frozenset({"answered", "refused"})


def assert_each_asked_once(verdict: Verdict, answered: int) -> None:
    """No fault of Redis' excuses a second provider request."""
    assert (verdict.answered, verdict.requests) == (answered, answered)


def test_every_connection_cut_again_and_again(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=1.5, times=None))
    scene.start_worker()
    scene.start_worker()
    scene.callers.ask(40, "a")
    for round_ in range(5):
        scene.wait_running(1)
        scene.server.cut_connections()
        scene.callers.ask(4, f"r{round_}")
    assert_each_asked_once(assert_promises(scene.history()), 60)


def test_redis_killed_and_back_after_a_second(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=2.0, times=None))
    scene.start_worker()
    scene.start_worker()
    scene.callers.ask(30, "before")
    scene.wait_running(30)
    scene.server.kill()
    scene.callers.ask(10, "meanwhile")
    scene.server.restart(after_s=1.0)
    scene.callers.ask(10, "after")
    assert_each_asked_once(assert_promises(scene.history()), 50)


def test_redis_away_for_30_s(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=3.0, times=None))
    scene.start_worker()
    scene.start_worker()
    scene.callers.ask(20, "before", timeout_s=90)
    scene.wait_running(20)
    scene.server.kill()
    meanwhile = scene.callers.ask(5, "meanwhile", may_end=frozenset({"refused"}))
    scene.until(lambda: all(call.ended_at for call in meanwhile), "a clear error", 10)
    assert all(call.ended_at and call.ended_at - call.submitted_at < 6 for call in meanwhile)
    scene.server.restart(after_s=25.0)
    scene.callers.ask(10, "after")
    assert_each_asked_once(assert_promises(scene.history()), 30)


def test_redis_frozen_for_longer_than_a_lease(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=3.0, times=None))
    scene.start_worker()
    scene.start_worker()
    for round_ in range(2):
        scene.callers.ask(20, f"r{round_}")
        scene.wait_running(20)
        # Past its first lease a worker may reap: what it sends now is what Redis does first when it wakes.
        time.sleep(QUICK_LEASE_S)
        scene.callers.ask(20, f"s{round_}")
        scene.wait_running(20)
        scene.server.freeze()
        time.sleep(QUICK_LEASE_S * 2)  # the fault itself
        scene.server.thaw()
        scene.callers.wait()
    assert_each_asked_once(assert_promises(scene.history()), 80)


def test_redis_out_of_memory(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=20))
    scene.start_worker()
    scene.callers.ask(20, "running")
    scene.wait_running(20)
    with scene.server.client() as client:
        client.config_set("maxmemory", 1_000_000)  # less than it has in use
    refused = scene.callers.ask(3, "refused", may_end=frozenset({"refused"}))
    scene.until(lambda: all(call.ended_at for call in refused), "a clear error", 10)
    assert ["out of memory" in str(call.error) for call in refused] == [True] * 3, refused
    scene.provider.release()
    scene.until(lambda: scene.running() == 0, "running jobs to end all the same")
    with scene.server.client() as client:
        client.config_set("maxmemory", 0)
    scene.callers.ask(5, "after")
    assert_each_asked_once(assert_promises(scene.history()), 25)


@pytest.mark.parametrize("stream", [False, True], ids=["calls", "streams"])
def test_a_flush_under_calls_at_the_provider(scene: Scene, stream: bool) -> None:
    pace = Step(words=30, chunk_delay_s=0.4, times=None) if stream else Step(delay_s=12.0, times=None)
    scene.provider.plan("*", pace)
    # With production's lease and beat: worker and client notice the loss in any order.
    scene.start_worker(quick=False)
    scene.start_worker(quick=False)
    scene.callers.ask(6, "running", stream=stream)
    scene.wait_running(6)
    scene.server.flush()
    scene.callers.ask(2, "after", stream=stream)
    assert_each_asked_once(assert_promises(scene.history()), 8)


def test_calls_that_wait_when_redis_forgets_them(scene: Scene) -> None:
    scene.callers.ask(20, "waiting")
    scene.until(lambda: scene.waiting() == 20, "the jobs to wait")
    scene.server.flush()
    scene.start_worker()
    assert_each_asked_once(assert_promises(scene.history()), 20)


def test_a_redis_that_lost_everything(scene: Scene) -> None:
    """A server without a file, restarted: worker and caller bring back what it no longer knows."""
    with ValkeyServer() as forgetful, Callers(forgetful.url) as callers:
        scene.callers.close()
        scene.server, scene.url, scene.callers = forgetful, forgetful.url, callers
        scene.provider.plan("*", Step(delay_s=4.0, times=None))
        scene.start_worker()
        callers.ask(10, "q")
        scene.wait_running(10)
        forgetful.restart(after_s=0.5)
        assert_each_asked_once(assert_promises(scene.history()), 10)
        for worker in scene.workers:
            worker.kill()
