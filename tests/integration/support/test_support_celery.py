"""pytest-celery's setup runs on processes, with the throwaway app and with the project's worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from support.workers.celery_nodes import ValkeyContainer

APP = """
import os
from celery import Celery

app = Celery("throwaway", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.worker_pool = "threads"


@app.task(name="throwaway.double")
def double(number):
    return number * 2
"""


@pytest.fixture
def celery_worker_env(celery_valkey: ValkeyContainer, tmp_path: Path) -> dict[str, str | None]:
    (tmp_path / "throwaway.py").write_text(APP)
    return {"BROKER": celery_valkey.server.url, "PYTHONPATH": str(tmp_path)}


@pytest.fixture
def celery_worker_options() -> dict[str, Any]:
    return {"app": "throwaway", "args": ["--without-gossip", "--without-mingle"]}


@pytest.fixture
def celery_setup_app(celery_valkey: ValkeyContainer) -> Iterator[Celery]:
    url = celery_valkey.server.url
    app = Celery("throwaway", broker=url, backend=url)
    app.conf.broker_connection_retry_on_startup = True
    yield app
    app.close()


def double(setup: CeleryTestSetup, number: int) -> int:
    answer: int = setup.app.send_task("throwaway.double", [number]).get(timeout=30)
    return answer


def test_a_setup_runs_restarts_and_tells_its_nodes(celery_setup: CeleryTestSetup) -> None:
    assert len(celery_setup) == 3
    assert celery_setup.ready(control=True, docker=True)
    assert double(celery_setup, 21) == 42
    worker = celery_setup.worker
    (reply,) = celery_setup.app.control.ping(timeout=5)
    assert list(reply) == [worker.hostname()]
    worker.assert_log_exists("ready.", timeout=5)
    assert worker.get_running_processes_info(["pid"])[0]["pid"] == worker.container.process.pid

    worker.kill()
    assert worker.container.status == "exited"
    worker.restart()
    assert double(celery_setup, 2) == 4

    celery_setup.broker.restart()
    assert celery_setup.broker.ready()
    assert double(celery_setup, 3) == 6
