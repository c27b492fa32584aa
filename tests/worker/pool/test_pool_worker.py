"""The pool in a real Celery worker on a real server."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.callers.malformed import (
    CANARY,
    harmful_commands,
    harmful_events,
    malformed_commands,
    malformed_messages,
)
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess
from worker.pool.pool_worker import Events, Jobs, make_worker

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def jobs(own_valkey: ValkeyServer) -> Iterator[Jobs]:
    jobs = Jobs(own_valkey)
    with jobs.app:
        yield jobs


@pytest.fixture
def start(own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[WorkerProcess] = []

    def start(concurrency: int = 100, *, gossip: bool = False, **env: str) -> WorkerProcess:
        log_path = tmp_path / f"worker-{len(started)}.log"
        worker = make_worker(own_valkey, "-c", str(concurrency), log_path=log_path, gossip=gossip, **env)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.kill()


def test_a_thousand_jobs_wait_at_once_in_two_threads(jobs: Jobs, start: StartWorker) -> None:
    worker = start(1000)
    idle_threads, idle_bytes = worker.threads, worker.rss_bytes
    ids = jobs.send("hold", count=1000)

    wait_until(lambda: jobs.stats(worker).get("in-flight") == 1000, 60, "all jobs in flight")
    assert worker.threads == idle_threads
    assert worker.rss_bytes - idle_bytes < 100 * 2**20
    jobs.release()
    wait_until(lambda: len(jobs.having(ids, "finished")) == 1000, 60, "all jobs to finish")
    wait_until(lambda: jobs.stats(worker).get("in-flight") == 0, 10, "nothing in flight")
    assert {jobs.facts(job_id)["threads"] for job_id in ids} == {"2"}


def test_beyond_the_limit_jobs_stay_in_redis_where_another_worker_takes_them(
    jobs: Jobs, start: StartWorker
) -> None:
    full = start(3)
    ids = jobs.send("sleep:60", count=8)
    wait_until(lambda: len(jobs.having(ids, "started")) == 3, 10, "the first worker to be full")

    assert jobs.stats(full)["in-flight"] == 3
    assert jobs.stats(full)["waiting"] == 0
    assert jobs.waiting() == 5

    other = start(10)
    wait_until(lambda: len(jobs.having(ids, "started")) == 8, 10, "the second worker to take the rest")
    assert jobs.stats(full)["in-flight"] == 3
    assert jobs.stats(other)["in-flight"] == 5


def test_a_full_worker_takes_the_next_job_as_soon_as_one_ends(jobs: Jobs, start: StartWorker) -> None:
    worker = start(2)
    ids = jobs.send("sleep:0.05", count=40)

    wait_until(lambda: len(jobs.having(ids, "finished")) == 40, 20, "all jobs to finish, two at a time")
    assert jobs.stats(worker)["total"] == 40


def test_terminate_cancels_one_running_job_and_no_other(jobs: Jobs, start: StartWorker) -> None:
    start()
    with Events.watched(jobs.app) as events:
        stopped, other = jobs.send("sleep:60"), jobs.send("sleep:3")
        wait_until(lambda: len(jobs.having(stopped + other, "started")) == 2, 10, "both to run")

        jobs.app.control.revoke(stopped[0], terminate=True)

        wait_until(lambda: jobs.having(stopped, "cancelled"), 10, "the job to be cancelled")
        # The task's own context is there when it settles.
        assert jobs.facts(stopped[0])["cancelled"] == "revoked"
        assert jobs.facts(stopped[0])["seen_id"] == stopped[0]
        wait_until(lambda: jobs.having(other, "finished"), 10, "the other job to finish")
        wait_until(lambda: "task-succeeded" in events.of(other[0]), 10, "the other job's event")
        assert events.of(stopped[0]) == ["task-received", "task-started", "task-revoked"]


def test_terminate_of_a_job_that_has_not_come_yet_is_remembered(jobs: Jobs, start: StartWorker) -> None:
    worker = start(1)
    running = jobs.send("sleep:60")
    wait_until(lambda: jobs.having(running, "started"), 10, "the worker to be full")
    late = jobs.send("return")
    jobs.app.control.revoke(late[0], terminate=True)
    after = jobs.send("return")
    jobs.app.control.revoke(running[0], terminate=True)

    wait_until(lambda: jobs.having(after, "finished"), 10, "the job after it to finish")
    assert not jobs.having(late, "started")
    assert jobs.stats(worker)["in-flight"] == 0


def test_no_job_can_end_the_worker_or_its_loop(jobs: Jobs, start: StartWorker) -> None:
    worker = start()
    with Events.watched(jobs.app) as events:
        bystander = jobs.send("sleep:60")
        for do in ("exit", "exit-at-once", "interrupt", "exit-in-child", "cancel-itself", "fail"):
            bad = jobs.send(do)[0]
            wait_until(lambda bad=bad: "task-failed" in events.of(bad), 10, f"{do} to fail")  # type: ignore[misc]
        after = jobs.send()
        wait_until(lambda: jobs.having(after, "finished"), 10, "a job after them to finish")
        wait_until(lambda: jobs.stats(worker).get("in-flight") == 1, 10, "only the bystander in flight")
        assert not jobs.having(bystander, "cancelled")


def test_malformed_messages_neither_kill_nor_stall_a_worker(
    jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer
) -> None:
    worker = start()
    messages, commands = malformed_messages(), malformed_commands()
    bystander = jobs.send("sleep:3")
    with own_valkey.client() as client:
        for raw in messages.values():
            client.lpush("llm", raw)
        for raw in commands.values():
            client.publish("/0.celery.pidbox", raw)
        for raw in harmful_commands().values():
            client.publish("/0.celery.pidbox", raw)

    good = jobs.send()
    wait_until(lambda: jobs.having(good, "finished"), 15, "a good job to finish")
    wait_until(lambda: jobs.having(bystander, "finished"), 15, "the job that ran meanwhile to finish")
    with own_valkey.client() as client:
        wait_until(
            lambda: client.llen("llmq:quarantine") == len(messages) + len(commands), 10, "all to be put aside"
        )
        client.set("llm\x06\x166", "not a list")
        wait_until(lambda: not client.exists("llm\x06\x166"), 10, "the key in the queue's place to be moved")
    again = jobs.send()
    wait_until(lambda: jobs.having(again, "finished"), 15, "a job after that to finish")
    assert jobs.stats(worker)["in-flight"] == 0
    assert CANARY not in worker.logs()
    assert "Unrecoverable" not in worker.logs()


def test_senseless_events_do_not_harm_a_worker_that_follows_the_others(
    jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer
) -> None:
    worker = start(gossip=True)
    with own_valkey.client() as client:
        for raw in (*harmful_events().values(), *malformed_commands().values()):
            assert client.publish("/0.celeryev/worker.heartbeat", raw) == 1

    good = jobs.send()
    wait_until(lambda: jobs.having(good, "finished"), 15, "a good job to finish")
    wait_until(lambda: jobs.stats(worker), 15, "the worker to answer commands")
    assert CANARY not in worker.logs()
    assert "Connection to broker lost" not in worker.logs()


def test_a_reply_that_redis_refuses_does_not_stall_a_worker(
    jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer
) -> None:
    worker = start()
    with own_valkey.client() as client:
        client.set("_kombu.binding.nowhere", "not a set", ex=600)
        reply_to = {"exchange": "nowhere", "routing_key": "x"}
        import json

        from support.callers.malformed import command

        client.publish("/0.celery.pidbox", json.dumps(command(body={"reply_to": reply_to, "ticket": "t"})))
    good = jobs.send()
    wait_until(lambda: jobs.having(good, "finished"), 15, "a good job to finish")
    wait_until(lambda: jobs.stats(worker), 15, "the worker to answer commands")


def test_every_connection_cut_under_running_jobs(
    jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer
) -> None:
    worker = start()
    with Events.watched(jobs.app):
        running = jobs.send("sleep:4", count=20)
        wait_until(lambda: len(jobs.having(running, "started")) == 20, 10, "the jobs to run")
    for _ in range(3):
        own_valkey.cut_connections()

    wait_until(lambda: len(jobs.having(running, "finished")) == 20, 20, "the running jobs to finish")
    after = jobs.send(count=5)
    wait_until(lambda: len(jobs.having(after, "finished")) == 5, 20, "later jobs to finish")
    assert jobs.stats(worker)["total"] == 25
    assert worker.running


def test_the_control_channel_cut_alone(jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer) -> None:
    worker = start()
    for _ in range(3):
        assert own_valkey.cut_connections("pubsub") == 1
        ids = jobs.send(count=3)
        wait_until(lambda ids=ids: len(jobs.having(ids, "finished")) == 3, 15, "jobs to finish")  # type: ignore[misc]
        wait_until(lambda: jobs.stats(worker), 15, "the worker to answer commands")


def test_redis_killed_and_restarted_under_running_jobs(
    jobs: Jobs, start: StartWorker, own_valkey: ValkeyServer
) -> None:
    worker = start(20)
    running = jobs.send("sleep:5", count=20)
    wait_until(lambda: len(jobs.having(running, "started")) == 20, 10, "the jobs to run")
    waiting = jobs.send(count=5)

    own_valkey.restart(after_s=1)

    wait_until(lambda: len(jobs.having(running, "finished")) == 20, 30, "the running jobs to finish")
    wait_until(lambda: len(jobs.having(waiting, "finished")) == 5, 30, "the waiting jobs to finish")
    wait_until(lambda: jobs.stats(worker).get("in-flight") == 0, 20, "the worker to answer again")
    assert jobs.stats(worker)["total"] == 25
    assert "Traceback" not in worker.logs()


def test_sigterm_finishes_what_runs_and_takes_nothing_more(jobs: Jobs, start: StartWorker) -> None:
    worker = start(5)
    with Events.watched(jobs.app) as events:
        running = jobs.send("sleep:3", count=5)
        wait_until(lambda: len(jobs.having(running, "started")) == 5, 10, "the jobs to run")
        late = jobs.send(count=3)
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(20) == 0
        assert len(jobs.having(running, "finished")) == 5
        assert jobs.waiting() == 3
        assert not jobs.having(late, "started")
        wait_until(
            lambda: all("task-succeeded" in events.of(job_id) for job_id in running), 10, "their events"
        )
    assert "Traceback" not in worker.logs()


def test_an_idle_worker_that_is_told_to_end_leaves_no_message_behind(jobs: Jobs, start: StartWorker) -> None:
    first, second = start(5), start(5)
    keep_busy = jobs.send("sleep:8")
    wait_until(lambda: jobs.having(keep_busy, "started"), 10, "one worker to be busy")
    for worker in (first, second):
        worker.send_signal(signal.SIGTERM)
    # Whichever pop was in flight must not swallow it for as long as the worker drains.
    ids = jobs.send(count=4)
    third = start(5)

    wait_until(lambda: len(jobs.having(ids, "finished")) == 4, 15, "another worker to take them")
    assert third.running


def test_at_the_drain_deadline_jobs_are_cancelled_and_told_why(jobs: Jobs, start: StartWorker) -> None:
    worker = start(5, POOL_APP_DRAIN_S="1")
    running = jobs.send("sleep:60", count=5)
    wait_until(lambda: len(jobs.having(running, "started")) == 5, 10, "the jobs to run")
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(20) == 0
    assert {jobs.facts(job_id)["cancelled"] for job_id in running} == {"shutdown"}


@pytest.mark.parametrize("first", [signal.SIGQUIT, signal.SIGTERM])
def test_sigquit_ends_at_once_also_during_a_drain(
    jobs: Jobs, start: StartWorker, first: signal.Signals
) -> None:
    worker = start(5)
    running = jobs.send("sleep:60", count=5)
    wait_until(lambda: len(jobs.having(running, "started")) == 5, 10, "the jobs to run")
    worker.send_signal(first)
    if first is signal.SIGTERM:
        worker.wait_for_log("Warm shutdown")
        worker.send_signal(signal.SIGQUIT)

    worker.wait(20)
    assert {jobs.facts(job_id)["cancelled"] for job_id in running} == {"shutdown"}
    assert "Traceback" not in worker.logs()


def test_the_limit_can_be_changed_while_it_runs(jobs: Jobs, start: StartWorker) -> None:
    worker = start(1)
    ids = jobs.send("sleep:60", count=4)
    wait_until(lambda: len(jobs.having(ids, "started")) == 1, 10, "one job to run")

    jobs.app.control.pool_grow(2, destination=[worker.nodename])

    wait_until(lambda: len(jobs.having(ids, "started")) == 3, 10, "three jobs to run")
    assert jobs.stats(worker)["max-concurrency"] == 3
    assert jobs.waiting() == 1


def test_its_figures_are_true(jobs: Jobs, start: StartWorker) -> None:
    worker = start(7)
    ids = jobs.send("sleep:60", count=2)
    wait_until(lambda: len(jobs.having(ids, "started")) == 2, 10, "the jobs to run")

    pool = jobs.stats(worker)

    assert pool["implementation"] == "rustic_ai.llm_queue.worker.pool.pool:AsyncPool"
    assert (pool["max-concurrency"], pool["in-flight"], pool["total"]) == (7, 2, 2)
    assert 0 <= pool["loop-lag-s"] < 60
    assert abs(pool["rss-bytes"] - worker.rss_bytes) < 20 * 2**20
