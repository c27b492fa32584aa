"""Processes, and what they use."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import psutil

from bench import ROOT
from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.ports import free_port


class BrokenContender(Exception):
    """A contender gave an error or a wrong answer."""


@dataclass(frozen=True)
class Use:
    """What processes of one role used."""

    cpu_s: float
    #: Proportional where processes share pages, in bytes.
    memory: int
    threads: int


def use_of(pids: Iterable[int]) -> Use:
    """CPU so far, memory and threads of these processes and their children."""
    cpu_s, memory, threads = 0.0, 0, 0
    for process in family(pids):
        times = process.cpu_times()
        cpu_s += times.user + times.system
        memory += int(process.memory_full_info().pss)
        threads += process.num_threads()
    return Use(cpu_s, memory, threads)


def cpu_s_of(pids: Iterable[int]) -> float:
    """CPU seconds these processes and their children have used so far, to the nanosecond.

    The kernel's clock of another process: `/proc` counts in hundredths of a second, which is too coarse for
    rounds of a few hundred calls.
    """
    return sum(time.clock_gettime(_cpu_clock(process.pid)) for process in family(pids))


def _cpu_clock(pid: int) -> int:
    # As clock_getcpuclockid(3) makes it, which Python does not have.
    return (~pid << 3) | 2


def family(pids: Iterable[int]) -> list[psutil.Process]:
    heads = [psutil.Process(pid) for pid in pids]
    return heads + [child for head in heads for child in head.children(recursive=True)]


class Stub:
    """The provider, in its own process."""

    def __init__(self) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "bench.stub", str(self._port)]
        self.process = ChildProcess(command, log_path=scratch_dir("stub") / "stub.log", cwd=ROOT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self.process.start()
        self.process.wait_for_log("ready.")

    def stats(self) -> dict[str, int]:
        return cast("dict[str, int]", self._ask("stats"))

    def release(self) -> None:
        """Answer every held call."""
        self._ask("release")

    def wait_open(self, number: int, timeout_s: float = 300.0) -> None:
        """Wait until exactly this many calls are open."""
        wait_until(lambda: self.stats()["open"] == number, timeout_s, f"{number} open calls")

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{what}", timeout=60) as reply:
            return json.load(reply)


class DriverProcess:
    """A client's process."""

    def __init__(self, kind: str, env: Mapping[str, str]) -> None:
        self._log = (scratch_dir("driver") / f"{kind}.log").open("w")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "bench.clients.drive", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=dict(env),
        )
        self._reply()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def do(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something. Raises `BrokenContender`."""
        order = cast("IO[str]", self._popen.stdin)
        order.write(json.dumps({"op": op, **arguments}) + "\n")
        order.flush()
        return self._reply()

    def close(self) -> None:
        """End it. Closing twice is safe."""
        self._popen.kill()
        self._popen.wait(10)
        for stream in (self._popen.stdin, self._popen.stdout, self._log):
            if stream is not None:
                stream.close()

    def _reply(self) -> dict[str, Any]:
        while line := cast("IO[str]", self._popen.stdout).readline():
            # LiteLLM prints what it likes.
            if not line.startswith("{"):
                continue
            reply: dict[str, Any] = json.loads(line)
            if "error" in reply:
                raise BrokenContender(reply["error"])
            return reply
        raise BrokenContender(f"the client ended; see {self._log.name}")


@contextmanager
def closing(*things: Any) -> Iterator[None]:
    """Close them all at the end, the last first."""
    try:
        yield
    finally:
        for thing in reversed(things):
            thing.close()
