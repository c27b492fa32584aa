"""Workers forked from a process that has LiteLLM imported: a start takes half a second instead of eight.

What is forked then runs the same command as any other worker, in a process group of its own.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from support.processes.reaper import reaper
from support.processes.scratch import scratch_dir
from support.workers.worker import WorkerProcess

_TESTS = Path(__file__).parents[2]
_POLL_S = 0.02
#: Importing LiteLLM takes 7-10 s of CPU, on a machine that may be busy.
_READY_S = 90
#: In a worker's environment: by how many seconds its clock is ahead, or behind.
CLOCK_OFF_S = "TESTS_CLOCK_OFF_S"


class Nursery:
    """The process workers are forked from. Start it once; it costs what one worker's start costs."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        paths = [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.log_path = scratch_dir("nursery") / "nursery.log"
        with theirs, self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.workers.nursery", str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._watch = reaper.watch(self._process.pid)
        self._lock = threading.Lock()
        self._replies = self._ours.makefile("r")

    def wait_ready(self) -> None:
        """Wait until LiteLLM is imported."""
        self._ask({})

    def fork(self, command: Sequence[str], env: Mapping[str, str], log_path: Path) -> "Forked":
        """Start ``python COMMAND`` (``-m module args...``) with exactly this environment."""
        pid = self._ask({"fork": list(command), "env": dict(env), "log": str(log_path)})
        return Forked(self, int(pid))

    def poll(self, pid: int) -> int | None:
        """The exit code of a fork, None while it runs."""
        code = self._ask({"poll": pid})
        return None if code is None else int(code)

    def close(self) -> None:
        """End it. Closing twice is safe."""
        self._replies.close()
        self._ours.close()
        self._process.kill()
        self._process.wait(10)
        reaper.forget(self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, order: dict[str, Any]) -> Any:
        with self._lock:
            self._ours.settimeout(_READY_S)
            self._ours.sendall(json.dumps(order).encode() + b"\n")
            line = self._replies.readline()
        assert line, f"the nursery died:\n{self.log_path.read_text()}"
        return json.loads(line)


class Forked:
    """A fork of the nursery's, with as much of `subprocess.Popen` as a `ChildProcess` needs."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._nursery.poll(self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout if timeout is not None else 3600)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class NurseryWorker(WorkerProcess):
    """A `WorkerProcess` that comes out of a nursery."""

    def __init__(self, nursery: Nursery, env: Mapping[str, str | None], **options: Any) -> None:
        super().__init__(env, **options)
        self._nursery = nursery

    def launch(self) -> None:
        self.log_path.touch()
        self._log_from = self.log_path.stat().st_size
        forked = self._nursery.fork(self.command[1:], self._env or {}, self.log_path)
        self._popen = cast("subprocess.Popen[bytes]", forked)
        self._watch = reaper.watch(forked.pid)


def _serve(connection: socket.socket) -> None:
    _warm_up()
    for line in connection.makefile("r"):
        order = json.loads(line)
        if "fork" in order:
            pid = os.fork()
            if pid == 0:
                connection.close()
                _become(order)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            reply: Any = pid
        else:
            reply = _exit_code(order["poll"]) if "poll" in order else None
        connection.sendall(json.dumps(reply).encode() + b"\n")


def _exit_code(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _become(order: dict[str, Any]) -> None:
    """Turn into the worker; ends the process."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["env"])
    _move_clock(float(os.environ.pop(CLOCK_OFF_S, "0")))
    signal.set_wakeup_fd(-1)
    module, *arguments = order["fork"][1:]
    sys.argv = [module, *arguments]
    import runpy

    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def _move_clock(seconds: float) -> None:
    """Have this process' own code see another time of day, as on a machine whose clock is off."""
    if not seconds:
        return
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + round(seconds * 1e9)


def _warm_up() -> None:
    """Import what a worker imports, at its start and at its first call."""
    from rustic_ai.llm_queue.worker.provider.litellm_api.setup import load_litellm
    from rustic_ai.llm_queue.worker.settings import WorkerSettings

    litellm = load_litellm(WorkerSettings())
    import celery.bin.worker  # noqa: F401  loaded for the forks
    from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

    import rustic_ai.llm_queue.worker.celery_app.factory
    import rustic_ai.llm_queue.worker.runtime  # noqa: F401  loaded for the forks

    async def call_nobody() -> None:
        with contextlib.suppress(Exception):
            await litellm.acompletion(
                model="openai/gpt-4o-mini",
                messages=[{"role": "user", "content": "warm up"}],
                api_base="http://127.0.0.1:1/v1",
                api_key="none",
                num_retries=0,
                max_retries=0,
            )
        await close_litellm_async_clients()  # type: ignore[no-untyped-call]  # LiteLLM's

    asyncio.run(call_nobody())
    litellm.in_memory_llm_clients_cache.flush_cache()
    assert threading.active_count() == 1, f"a fork would lose {threading.enumerate()}"


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
