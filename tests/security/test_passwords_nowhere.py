"""A password of Redis' URL, in whatever place of it, is on no page and in no answer, log or message."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.processes.wait import wait_until
from support.servers.flower import FlowerProcess
from support.servers.sentinel import MASTER_NAME, SentinelProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import APP, WorkerProcess

PASSWORD, OF_THE_SENTINEL = "canary-of-the-master", "canary-of-the-sentinel"
ACL = ["user default off", f"user worker on >{PASSWORD} ~* &* +@all"]


@contextmanager
def plain(_: Path) -> Iterator[str]:
    with ValkeyServer(acl=ACL) as server:
        yield server.url_for("worker", PASSWORD)


@contextmanager
def by_sentinel(directory: Path) -> Iterator[str]:
    more = (
        f"requirepass {OF_THE_SENTINEL}\n"
        f"sentinel auth-user {MASTER_NAME} worker\nsentinel auth-pass {MASTER_NAME} {PASSWORD}\n"
    )
    with ValkeyServer(acl=ACL) as server:
        process = SentinelProcess(directory, 0, server.port, 5.0, more=more)
        process.start()
        try:
            wait_until(lambda: "+monitor master" in process.log_tail(), 15, "the Sentinel to know its master")
            options = f"master={MASTER_NAME}&sentinel_password={OF_THE_SENTINEL}"
            # The second is away: kombu keeps its whole URL as an alternate.
            yield f"sentinel://worker:{PASSWORD}@127.0.0.1:{process.port};127.0.0.1:1/0?{options}"
        finally:
            process.kill()


@pytest.fixture(scope="module", params=[plain, by_sentinel], ids=["redis", "sentinel"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with request.param(tmp_path_factory.mktemp("servers")) as made:
        yield made


@pytest.fixture(scope="module")
def worker(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with WorkerProcess({"LLM_QUEUE_REDIS_URL": url}, args=["-l", "DEBUG"], log_path=log) as process:
        yield process


def no_password(text: str, where: str) -> None:
    assert "canary" not in text, (
        f"a password is in {where}: {text[max(text.index('canary') - 200, 0) :][:400]}"
    )


def test_what_a_worker_answers_and_logs(url: str, worker: WorkerProcess) -> None:
    app = make_celery_app(QueueSettings(redis_url=url))
    try:
        inspect = app.control.inspect(timeout=3)
        for name in ("stats", "report", "active_queues", "registered", "ping"):
            answer = getattr(inspect, name)()
            assert answer, name
            no_password(json.dumps(answer), name)
        answer = inspect.conf(with_defaults=True)
        assert answer
        no_password(json.dumps(answer), "conf")
    finally:
        app.close()
    no_password(worker.logs(), "the log")


def test_what_celerys_own_commands_print(url: str, worker: WorkerProcess) -> None:
    for arguments in (["report"], ["inspect", "stats"], ["inspect", "conf"]):
        ran = subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, *arguments],
            env={"LLM_QUEUE_REDIS_URL": url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.stdout, ran.stderr
        no_password(ran.stdout + ran.stderr, " ".join(arguments))


def test_flowers_pages_and_api(url: str, worker: WorkerProcess, tmp_path: Path) -> None:
    with FlowerProcess({"LLM_QUEUE_REDIS_URL": url}, log_path=tmp_path / "flower.log") as flower:
        wait_until(lambda: worker.nodename in flower.get("/api/workers?refresh=1").text, 20, "the worker")
        for path in {*flower.readable_paths("x"), *flower.readable_paths(worker.nodename)}:
            no_password(flower.get(path).text, path)
        page = flower.get(f"/worker/{worker.nodename}")
        assert "127.0.0.1" in page.text
        no_password(page.text, "the worker's page")
        no_password(flower.logs(), "the log")
