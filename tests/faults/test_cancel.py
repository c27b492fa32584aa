"""Jobs that are cancelled, that expire, that are sent twice: with several workers to look for them on."""

import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from faults.callers import OWNER
from faults.checker import assert_promises
from faults.history import Ending
from faults.scene import Scene
from rustic_ai.llm_queue.resolver.exceptions import IdempotencyConflict, JobCancelled
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from rustic_ai.llm_queue.worker.cli.main import commands
from support.callers.llm import ask
from support.providers.provider import Step

pytestmark = pytest.mark.timeout(120)

CANCELLED: frozenset[Ending] = frozenset({"cancelled"})
Cancel = Callable[[Scene, str], None]


def by_handle(scene: Scene, job_id: str) -> None:
    assert scene.callers.llm().job(job_id).cancel()


def by_revoke(scene: Scene, job_id: str) -> None:
    """What Flower's Terminate button does."""
    with make_celery_app(scene.callers.settings) as app:
        app.control.revoke(job_id, terminate=True)


def by_terminate(scene: Scene, job_id: str) -> None:
    """What `celery control terminate` does."""
    with make_celery_app(scene.callers.settings) as app:
        app.control.terminate(job_id)


def by_command(scene: Scene, job_id: str) -> None:
    """What `llm-queue cancel` does."""
    ran = CliRunner().invoke(commands, ["cancel", job_id], env={"LLM_QUEUE_REDIS_URL": scene.url})
    assert ran.exit_code == 0, ran.output


HOW = pytest.mark.parametrize("cancel", [by_handle, by_revoke])


def last_closed_at(scene: Scene, left: int) -> float:
    """When the provider saw the last call end, once only so many are open."""
    scene.until(lambda: scene.provider.open_calls == left, f"{left} calls to be left", 5)
    return max(one.ended_at or 0 for one in scene.provider.requests())


def job_ids(scene: Scene) -> list[str]:
    return list(scene.jobs())


@HOW
def test_cancel_of_running_calls_closes_them_within_a_second(scene: Scene, cancel: Cancel) -> None:
    scene.provider.plan("*", Step(hold=True, times=None))
    # With a beat this long, only being told explains a quick end.
    slow = {"LEASE": "60s", "BEAT": "20s"}
    scene.start_worker(slow)
    scene.start_worker(slow)
    calls = scene.callers.ask(4, "q", may_end=CANCELLED)
    scene.wait_running(4)
    for left, job_id in zip((3, 2, 1, 0), job_ids(scene), strict=True):
        asked_at = time.monotonic()
        cancel(scene, job_id)
        closed_at = last_closed_at(scene, left)
        assert asked_at < closed_at < asked_at + 1.0, "the promise: closed within a second"
    history = scene.history()
    assert_promises(history)
    assert all(one.client_closed for one in history.requests)
    assert {call.error.split(":")[0] for call in calls if call.error} == {"JobCancelled"}


@HOW
def test_cancel_of_a_waiting_job_ends_it_at_once(scene: Scene, cancel: Cancel) -> None:
    scene.provider.plan("*", Step(hold=True, times=1))
    scene.start_worker(CONCURRENCY="1")
    scene.callers.ask(1, "busy")
    scene.wait_running(1)
    scene.callers.ask(1, "waits", may_end=CANCELLED)
    scene.until(lambda: scene.waiting() == 1, "the second job to wait")
    (waiting,) = (one for one, job in scene.jobs().items() if job.state == "queued")
    cancel(scene, waiting)
    scene.until(lambda: scene.callers.under_way == 1, "the waiting call to end", 5)
    scene.provider.release()
    history = scene.history()
    assert_promises(history)
    assert history.requests_of("waits-0") == []


@pytest.mark.parametrize(
    ("cancel", "by"),
    [(by_handle, "caller"), (by_revoke, "operator"), (by_terminate, "operator"), (by_command, "operator")],
)
def test_a_running_jobs_caller_is_told_who_cancelled_it(scene: Scene, cancel: Cancel, by: str) -> None:
    scene.provider.plan("*", Step(hold=True, times=None))
    scene.start_worker()
    handle = scene.callers.llm().submit(ask("#q"))
    scene.provider.wait_for_requests(1)
    cancel(scene, handle.id)
    with pytest.raises(JobCancelled, match=f"cancelled by {by}"):
        handle.result()


def test_cancel_of_a_job_that_has_ended_says_so(scene: Scene) -> None:
    scene.start_worker()
    handle = scene.callers.llm().submit(ask("#q"))
    answer = handle.result()
    assert not handle.cancel()
    with make_celery_app(scene.callers.settings) as app:
        app.control.revoke(handle.id, terminate=True)
    assert handle.status() is JobState.ANSWERED
    assert handle.result() == answer


def test_a_cancelled_job_of_a_dead_worker_is_not_run_again(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=1))
    worker = scene.start_worker()
    scene.callers.ask(1, "q", may_end=CANCELLED)
    scene.wait_running(1)
    (job_id,) = job_ids(scene)
    scene.kill(worker)
    assert scene.callers.llm().job(job_id).cancel()
    scene.start_worker()
    history = scene.history()
    assert_promises(history)
    assert len(history.requests) == 1


def test_a_job_whose_deadline_passes_in_the_queue_is_never_run(scene: Scene) -> None:
    scene.callers.ask(3, "q", timeout_s=1.0, may_end=frozenset({"timeout"}))
    scene.callers.wait()
    scene.start_worker()
    history = scene.history()
    assert_promises(history)
    assert history.requests == []


def test_a_job_whose_caller_is_gone_expires_in_the_queue(scene: Scene) -> None:
    scene.provider.plan("busy-0", Step(hold=True))
    scene.start_worker(CONCURRENCY="1")
    scene.callers.ask(1, "busy")
    scene.wait_running(1)
    handle = scene.callers.llm(timeout=1.0).submit(ask("#q"))
    scene.until(lambda: handle.status() is JobState.EXPIRED, "the job to expire")
    scene.provider.release()
    assert_promises(scene.history())
    assert scene.provider.requests("q") == []


def test_a_deadline_ends_a_running_call_and_its_job(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=None))
    scene.start_worker()
    scene.callers.ask(3, "q", timeout_s=2.0, may_end=frozenset({"timeout"}))
    scene.wait_running(3)
    history = scene.history()
    assert_promises(history)
    for one in history.requests:
        assert one.client_closed
        assert one.ended_at is not None
        assert one.ended_at - one.received_at < 3.5


def test_an_idempotency_key_stands_for_one_job_and_its_answer(scene: Scene) -> None:
    scene.start_worker()
    llm = scene.callers.llm()
    first = llm.submit(ask("#q"), idempotency_key="order-17")
    answer = first.result()
    again = llm.submit(ask("#q"), idempotency_key="order-17")
    assert again.id == first.id
    assert again.result() == answer
    with pytest.raises(IdempotencyConflict):
        llm.submit(ask("#another"), idempotency_key="order-17")
    assert len(scene.provider.requests()) == 1


def test_a_stored_answer_is_kept_as_long_as_its_idempotency_key(scene: Scene) -> None:
    scene.start_worker({"RESULT_TTL": "1s"})
    llm = scene.callers.llm()
    first = llm.submit(ask("#q"), idempotency_key="order-17")
    scene.until(lambda: first.status().final, "the job to end")
    with scene.server.client() as client:
        assert client.ttl(f"llmq:job:{first.id}") > 23 * 3600
        assert client.ttl(f"celery-task-meta-{first.id}") > 23 * 3600


def test_a_caller_that_goes_away_takes_its_job_with_it(scene: Scene) -> None:
    scene.provider.plan("*", Step(hold=True, times=None))
    scene.start_worker()
    scene.callers.ask(3, "q")
    scene.wait_running(3)
    scene.callers.drop()
    scene.until(lambda: scene.provider.open_calls == 0, "the calls to be closed")
    scene.until(lambda: {job.state for job in scene.jobs().values()} == {"cancelled"}, "the jobs to end")


def test_a_job_of_another_agent_cannot_be_cancelled(scene: Scene) -> None:
    handle = scene.callers.llm().submit(ask("#q"))
    stranger = type(OWNER)(org=OWNER.org, guild="other", agent="other")
    from rustic_ai.llm_queue.resolver import QueueLLM
    from rustic_ai.llm_queue.resolver.exceptions import JobNotFound
    from rustic_ai.llm_queue.resolver.properties import Properties

    other = QueueLLM(Properties.load({"model": "gpt-4"}), scene.callers.settings, stranger)
    with pytest.raises(JobNotFound):
        other.job(handle.id).cancel()
    assert handle.cancel()
    with pytest.raises(JobCancelled):
        handle.result()
