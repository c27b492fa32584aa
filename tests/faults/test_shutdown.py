"""Workers that are told to end while they have calls under way."""

import signal
import time

import pytest

from faults.checker import assert_promises
from faults.scene import Scene
from support.providers.provider import Step
from support.workers.nursery import NurseryWorker

pytestmark = pytest.mark.timeout(120)

TERM, QUIT, INT = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT


def assert_orderly(worker: NurseryWorker) -> None:
    """It ended without a traceback."""
    assert "Traceback" not in worker.logs(), worker.logs()


def test_a_drain_ends_what_it_can_and_hands_the_rest_over_at_once(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=1.0, times=None))
    for number in range(10):
        scene.provider.plan(f"long-{number}", Step(hold=True), Step())
    # With a lease this long, only a hand-over explains a quick rerun.
    lease = {"LEASE": "60s", "BEAT": "500ms", "DRAIN": "3s", "HARD_STOP": "20s"}
    leaving = scene.start_worker(lease)
    scene.callers.ask(10, "long")
    scene.callers.ask(10, "short")
    scene.wait_running(20)
    scene.start_worker(lease)
    from_s = time.monotonic()
    leaving.send_signal(TERM)
    scene.callers.ask(10, "later")
    assert leaving.wait(15) == 0
    scene.note("handed back", from_s, time.monotonic())
    history = scene.history()
    verdict = assert_promises(history)
    assert verdict.duplicates == 10
    for number in range(10):
        first, second = history.requests_of(f"long-{number}")
        assert first.client_closed
        assert first.ended_at is not None
        assert first.ended_at - from_s >= 3.0, "it waits for its calls as long as it was told to"
        assert second.received_at - first.ended_at < 3.0, "handed over, not left to the lease"
    assert {len(history.requests_of(f"short-{number}")) for number in range(10)} == {1}
    assert_orderly(leaving)


def test_killed_during_its_drain(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=10))
    leaving = scene.start_worker()
    scene.callers.ask(10, "q")
    scene.wait_running(10)
    leaving.send_signal(TERM)
    leaving.wait_for_log("Warm shutdown")
    scene.kill(leaving)
    scene.start_worker()
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.duplicates) == (10, 10)


@pytest.mark.parametrize("signals", [(TERM, TERM), (TERM, QUIT), (QUIT,), (INT, INT)], ids=str)
def test_a_second_signal_and_sigquit_hand_everything_over_at_once(
    scene: Scene, signals: tuple[signal.Signals, ...]
) -> None:
    scene.provider.plan("*", Step(hold=True, times=10))
    long = {"LEASE": "60s", "BEAT": "500ms", "DRAIN": "60s", "HARD_STOP": "90s"}
    leaving = scene.start_worker(long)
    scene.callers.ask(10, "q")
    scene.wait_running(10)
    other = scene.start_worker(long)
    from_s = time.monotonic()
    for number, one in enumerate(signals):
        if number:
            leaving.wait_for_log("shutdown")
        leaving.send_signal(one)
    leaving.wait(15)
    scene.note("handed back", from_s, time.monotonic())
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.duplicates) == (10, 10)
    assert_orderly(leaving)
    assert other.running


def test_the_hard_deadline_ends_a_worker_that_cannot_hand_back(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=5))
    leaving = scene.start_worker({"DRAIN": "1s", "HARD_STOP": "3s"})
    scene.callers.ask(5, "q")
    scene.wait_running(5)
    from_s = time.monotonic()
    scene.server.freeze()
    leaving.send_signal(TERM)
    leaving.wait(25)
    scene.note("handed back", from_s, time.monotonic())
    scene.server.thaw()
    scene.start_worker()
    verdict = assert_promises(scene.history())
    assert verdict.answered == 5
    assert_orderly(leaving)
