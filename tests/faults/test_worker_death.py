"""Workers that are killed and frozen in the middle of calls."""

import re

import pytest

from faults.checker import assert_promises
from faults.history import History
from faults.scene import Scene
from support.providers.provider import Step
from support.servers.proxy import TcpProxy

pytestmark = pytest.mark.timeout(180)


def job_of(history: History, tag: str) -> tuple[str, int]:
    """State and epoch of the job of one call."""
    job_id = next(call.job_id for call in history.calls if call.tag == tag)
    job = history.jobs[job_id or ""]
    return job.state, job.epoch


def test_workers_killed_in_mid_call_while_200_jobs_run(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=1.5, times=None))
    workers = [scene.start_worker(), scene.start_worker()]
    scene.callers.ask(110, "a")
    for round_ in range(3):
        scene.wait_running(20)
        scene.kill(workers.pop(0))
        workers.append(scene.start_worker())
        scene.callers.ask(30, f"r{round_}")
    verdict = assert_promises(scene.history())
    assert verdict.answered == 200
    assert verdict.duplicates > 0, "no call was hit: this test tests nothing"


def test_killed_between_taking_a_message_and_recording_it(scene: Scene) -> None:
    with TcpProxy(scene.server.port) as proxy:
        proxy.stall_on = b"_claim"
        taker = scene.start_worker(url=proxy.redis_url)
        scene.callers.ask(1, "q")
        scene.until(lambda: proxy.stalled, "the worker to try to claim")
        assert (scene.messages(), scene.waiting(), scene.running()) == (0, 1, 0)
        scene.kill(taker)
        scene.start_worker()
        history = scene.history()
    verdict = assert_promises(history)
    assert (verdict.requests, job_of(history, "q-0")) == (1, ("answered", 1))


def test_killed_between_the_answer_and_its_record(scene: Scene) -> None:
    with TcpProxy(scene.server.port) as proxy:
        proxy.stall_on = b"_finish"
        first = scene.start_worker(url=proxy.redis_url)
        scene.callers.ask(1, "retried")
        scene.callers.ask(1, "failing", on_worker_loss="fail", may_end=frozenset({"failed"}))
        scene.until(lambda: proxy.stalled, "the worker to try to finish")
        both = [True, True]
        scene.until(lambda: [one.completed for one in scene.provider.requests()] == both, "both answers")
        scene.kill(first)
        scene.start_worker()
        history = scene.history()
    verdict = assert_promises(history)
    assert (verdict.duplicates, len(history.requests_of("failing-0"))) == (1, 1)
    retried, failing = history.calls
    assert retried.possible_duplicate_charge
    assert [one.status for one in retried.attempts] == ["lost", "ok"]
    assert failing.error is not None
    assert failing.error.startswith("WorkerLost")


def test_a_job_that_kills_its_workers_is_given_up(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=None))
    scene.callers.ask(1, "q", may_end=frozenset({"failed"}))
    for number in range(1, 4):
        worker = scene.start_worker()
        scene.provider.wait_for_requests(number, "q-0", timeout_s=20)
        scene.kill(worker)
    scene.start_worker()
    history = scene.history()
    assert_promises(history)
    assert len(history.requests) == 3
    (call,) = history.calls
    assert call.error is not None
    assert call.error.startswith("WorkerLost")


def test_a_worker_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes(scene: Scene) -> None:
    open_, answered = Step(hold=True), Step(delay_s=1.0, text="too late")
    scene.provider.plan("open-0", open_, Step(text="in time"))
    scene.provider.plan("done-0", answered, Step(text="in time"))
    zombie = scene.start_worker()
    scene.callers.ask(1, "open")
    scene.callers.ask(1, "done")
    scene.provider.wait_for_requests(2)
    with scene.frozen(zombie):
        scene.start_worker()
        calls = scene.callers.wait()
        assert [call.text for call in calls] == ["in time", "in time"]
        before = scene.jobs()
    # Its one call is still open and must be closed; the other's answer waits in its socket.
    scene.provider.wait_for(lambda seen: not seen[0].open, "open-0", 2.0, "the zombie's call to be closed")
    # By its renewal or, where the answer is read first, by the refused end.
    noticed = re.compile("is no longer this claim's|ended here after its lease was lost")
    scene.until(lambda: len(noticed.findall(zombie.logs())) >= 2, "the zombie to notice")
    after = scene.history()
    assert_promises(after)
    assert after.jobs == before
    assert [one.client_closed for one in after.requests_of("open-0")] == [True, False]
    assert all(call.possible_duplicate_charge for call in after.calls)


def test_a_worker_that_stood_still_repeats_nothing_of_what_redis_has_lost_since(scene: Scene) -> None:
    # Its call fails once it wakes, and would be made again.
    scene.provider.plan("q-0", Step(hold=True, status=503), Step(text="in time"))
    zombie = scene.start_worker()
    scene.callers.ask(1, "q")
    scene.provider.wait_for_requests(1)
    with scene.frozen(zombie):
        scene.start_worker()
        (call,) = scene.callers.wait()
        assert call.text == "in time"
        with scene.server.client() as client:
            client.flushall()
        scene.provider.release("q-0")
    noticed = re.compile("is no longer this claim's|ended here after its lease was lost")
    scene.until(lambda: noticed.search(zombie.logs()), "the zombie to notice")
    scene.callers.ask(1, "after")
    scene.callers.wait()
    assert len(scene.provider.requests("q-0")) == 2


def test_a_rerun_begins_within_20_s_with_the_settings_as_they_come(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=20), Step(times=None))
    worker = scene.start_worker(quick=False)
    scene.callers.ask(20, "q")
    scene.wait_running(20)
    scene.start_worker(quick=False)
    scene.kill(worker)
    verdict = assert_promises(scene.history())
    assert verdict.rerun_s
    assert max(verdict.rerun_s) < 20, "the promise: a rerun within 20 s of a worker's death"
