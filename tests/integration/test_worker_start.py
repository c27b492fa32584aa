"""A worker's start: refused in one line, stopped at any moment, and with the limits that it was given."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver.exceptions import JobCancelled
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.callers.llm import MakeLLM, ask
from support.processes.process import ChildProcess
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.ports import free_port
from support.servers.roles import PASSWORDS, users_acl
from support.servers.valkey import ValkeyServer
from support.workers.worker import APP, WorkerProcess

ENTRIES = {
    "llm-queue": ["-m", "rustic_ai.llm_queue.worker.cli", "worker"],
    "celery": ["-m", "celery", "-A", APP, "worker", "-l", "INFO"],
}
BOTH = pytest.mark.parametrize("entry", list(ENTRIES))
#: A process that is the first of a container has the id 1.
AS_PID_1 = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
#: What Celery logs once its own handlers of signals stand.
STARTS = "concurrency: "
#: Celery warns a worker that root starts.
QUIET = {"PYTHONWARNINGS": "ignore"}


class Starting(WorkerProcess):
    """A worker whose start is not waited for."""

    def start(self) -> None:
        self.launch()

    def refused(self) -> tuple[int | None, list[str]]:
        """Its exit code and what it said, once it has ended."""
        self.wait()
        return self.exit_code, self.logs().splitlines()


@BOTH
def test_a_broken_config_ends_it_with_3_and_a_line(entry: str, tmp_path: Path, valkey: ValkeyServer) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text("general_settings: {}\n")
    env = {"LLM_QUEUE_REDIS_URL": valkey.url, "LLM_QUEUE_LITELLM_CONFIG": str(config), **QUIET}
    with Starting(env, command=ENTRIES[entry]) as worker:
        code, lines = worker.refused()
    assert (code, len(lines)) == (3, 1), lines
    assert lines[0].startswith("llm-queue: LLM_QUEUE_LITELLM_CONFIG: ")


@BOTH
def test_a_setting_that_is_wrong_ends_it_with_3_and_a_line(entry: str) -> None:
    with Starting({"LLM_QUEUE_REDIS_URL": "http://secret@host", **QUIET}, command=ENTRIES[entry]) as worker:
        code, lines = worker.refused()
    assert (code, len(lines)) == (3, 1), lines
    assert "LLM_QUEUE_REDIS_URL" in lines[0]
    assert "secret" not in lines[0]


@pytest.fixture(scope="module")
def guarded() -> Iterator[ValkeyServer]:
    """A server with the users that operators are given."""
    with ValkeyServer(acl=users_acl()) as server:
        yield server


@BOTH
@pytest.mark.parametrize(
    ("user", "password", "queue", "says"),
    [
        ("worker", "wrong", "llm", "refuses the login: check user and password in LLM_QUEUE_REDIS_URL"),
        ("agent", PASSWORDS["agent"], "llm", "does not let this user take jobs from the queue 'llm'"),
        ("worker", PASSWORDS["worker"], "own", "does not let this user take jobs from the queue 'own'"),
    ],
)
def test_a_user_that_may_not_take_jobs_ends_it_with_4_and_a_line(
    entry: str, guarded: ValkeyServer, user: str, password: str, queue: str, says: str
) -> None:
    env = {"LLM_QUEUE_REDIS_URL": guarded.url_for(user, password), "LLM_QUEUE_QUEUE": queue, **QUIET}
    with Starting(env, command=ENTRIES[entry]) as worker:
        code, lines = worker.refused()
    assert code == 4, lines
    assert says in lines[-1]
    assert password not in lines[-1]


@BOTH
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_another_pool_is_refused(entry: str, pool: str, valkey: ValkeyServer) -> None:
    arguments = [*ENTRIES[entry], *(["--"] if entry == "llm-queue" else []), "-P", pool]
    with Starting({"LLM_QUEUE_REDIS_URL": valkey.url, **QUIET}, command=arguments) as worker:
        code, lines = worker.refused()
    assert (code, len(lines)) == (2, 1), lines
    assert "leave out -P and --pool" in lines[0]


def test_a_concurrency_beyond_all_measure_is_refused(valkey: ValkeyServer) -> None:
    with Starting({"LLM_QUEUE_REDIS_URL": valkey.url}, args=["-c", "200000"]) as worker:
        code, lines = worker.refused()
    assert code == 2
    assert "give 1 to 100000" in lines[-1]


# SIGTERM during the start


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


class AsPid1(Starting):
    """A worker that has the id 1 in a world of its own, as a container's first process has."""

    def __init__(self, env: dict[str, str], entry: str) -> None:
        super().__init__(env)
        self.command = [*AS_PID_1, sys.executable, *ENTRIES[entry]]

    def first(self) -> int:
        """The worker's own id, as it is seen from here."""
        found: list[int] = wait_until(lambda: self.children, 20, "the worker's process")
        return found[0]

    def terminate(self) -> None:
        """SIGTERM, to the worker alone."""
        os.kill(self.first(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("entry", "moment"),
    [("llm-queue", "imports"), ("celery", "imports"), ("celery", "start"), ("llm-queue", "redis away")],
)
def test_sigterm_during_the_start_ends_a_containers_first_process(
    entry: str, moment: str, valkey: ValkeyServer
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0" if moment == "redis away" else valkey.url
    with AsPid1({"LLM_QUEUE_REDIS_URL": url, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}, entry) as worker:
        if moment == "imports":
            first = worker.first()
            wait_until(lambda: _catches(first, signal.SIGTERM), 20, "a handler")
        elif moment == "start":
            worker.wait_for_log(STARTS, 60)
        else:
            worker.wait_for_log("Trying again", 60)
        worker.terminate()
        assert worker.wait(20) == 0
        assert "ready." not in worker.logs()
        assert moment != "imports" or STARTS not in worker.logs()


def test_once_it_takes_jobs_it_drains(valkey: ValkeyServer, provider: ProviderStub, llm: MakeLLM) -> None:
    provider.plan("q", Step(text="whole", hold=True))
    env = {"LLM_QUEUE_REDIS_URL": valkey.url, **provider.env()}
    with AsPid1({**env, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}, "llm-queue") as worker:
        worker.wait_ready()
        handle = llm().submit(ask("#q"))
        provider.wait_for_requests(1, "q")
        worker.terminate()
        worker.wait_for_log("shutdown", 10)
        provider.release("q")
        assert handle.result().choices[0].message.content == "whole"
        assert worker.wait(30) == 0
    assert len(provider.requests("q")) == 1


def test_flower_as_a_containers_first_process_ends_too(tmp_path: Path, valkey: ValkeyServer) -> None:
    command = [*AS_PID_1, sys.executable, "-m", "rustic_ai.llm_queue.worker.cli", "flower", "--port", "0"]
    env = {"LLM_QUEUE_REDIS_URL": valkey.url, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    flower = ChildProcess(command, log_path=tmp_path / "flower.log", env=env)
    with flower:
        (first,) = wait_until(lambda: flower.children, 20, "Flower's process")
        wait_until(lambda: _catches(first, signal.SIGTERM), 20, "a handler")
        os.kill(first, signal.SIGTERM)
        assert flower.wait(20) == 0
    assert "Flower is at" not in flower.logs()


# What it says and holds


def test_a_json_log_is_json_from_the_first_line_to_the_last(valkey: ValkeyServer) -> None:
    env = {"LLM_QUEUE_REDIS_URL": valkey.url, "LLM_QUEUE_LOG_FORMAT": "json"}
    with WorkerProcess(env) as worker:
        assert worker.stop() == 0
        lines = worker.logs().splitlines()
    assert len(lines) > 2
    messages = [json.loads(line)["message"] for line in lines]
    assert "worker: Warm shutdown (MainProcess)" in messages


@pytest.mark.leaves_keys("*.reply.celery.pidbox", reason="one reply is awaited; a second may come")
def test_its_connections_follow_its_own_concurrency_also_when_that_is_raised(
    start_fresh_worker: Callable[..., WorkerProcess],
    valkey: ValkeyServer,
    provider: ProviderStub,
    llm: MakeLLM,
) -> None:
    """With a limit of LiteLLM's made from the setting, the last of 90 calls would wait for a connection."""
    env = {"LLM_QUEUE_REDIS_URL": valkey.url, "LLM_QUEUE_CONCURRENCY": "1", **provider.env()}
    start_fresh_worker(env, args=["-c", "5"])
    with make_celery_app(QueueSettings(redis_url=valkey.url)) as app:
        assert app.control.pool_grow(85, reply=True, timeout=60, limit=1)
    provider.plan("q", Step(hold=True, times=None))
    handles = [llm().submit(ask(f"{number} #q")) for number in range(90)]
    provider.wait_for_requests(90, "q", timeout_s=60)
    for handle in handles:
        handle.cancel()
    for handle in handles:
        with pytest.raises(JobCancelled):
            handle.result()
