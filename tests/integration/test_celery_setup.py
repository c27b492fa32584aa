"""The project's worker under pytest-celery's setup: what operators and Flower ask of it."""

from pytest_celery import CeleryTestSetup

from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE, TASK_NAME


def test_the_worker_answers_remote_control_with_honest_figures(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker
    assert celery_setup.ready(control=True, docker=True)
    inspect = celery_setup.app.control.inspect([worker.hostname()], timeout=5)
    stats = inspect.stats()[worker.hostname()]
    assert "AsyncPool" in stats["pool"]["implementation"]
    assert stats["pool"]["max-concurrency"] == 1_000
    assert stats["pid"] == worker.container.process.pid
    assert TASK_NAME in inspect.registered()[worker.hostname()]
    assert [queue["name"] for queue in inspect.active_queues()[worker.hostname()]] == [DEFAULT_QUEUE]
    assert inspect.active() == {worker.hostname(): []}


def test_a_killed_worker_comes_back_on_the_same_redis(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker
    first = worker.container.process.pid
    worker.kill()
    assert worker.container.status == "exited"
    worker.restart()
    assert worker.container.process.pid != first
    assert celery_setup.ready(control=True)
