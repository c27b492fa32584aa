"""Who is measured, each with servers of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.callers import PROXY_KEY
from bench.lab import BrokenContender, DriverProcess, Stub, cpu_s_of
from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

#: Never our dependencies: LiteLLM's proxy and gevent live apart.
OTHER_VENV = ROOT / ".bench-venv"
_IN_OTHER_VENV = ["litellm[proxy]==1.106.2", "celery[redis]>=5.7,<5.8", "gevent"]
_CONCURRENCY = "6000"


class Contender:
    """One way to make calls: a client's process and whatever serves it."""

    name = ""
    driver_kind = ""
    streams = True
    #: Calls it can have open at once, or that its client can.
    most_in_flight = 5_000

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.driver: DriverProcess | None = None

    def start(self) -> None:
        """Start everything, and make the first calls, which are slower than the rest."""
        self.serve()
        self.driver = DriverProcess(self.driver_kind, self.env())
        self.do("calls", number=100, in_flight=20, prompt="warm up")

    def serve(self) -> None:
        """Start what serves the client."""

    def env(self) -> dict[str, str]:
        return dict(os.environ) | {
            "OPENAI_BASE_URL": self.stub.base_url,
            "OPENAI_API_BASE": self.stub.base_url,
            "OPENAI_API_KEY": "sk-bench",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            # As many connections as calls, or the SDK would be held up by its own default of 500.
            "AIOHTTP_CONNECTOR_LIMIT": _CONCURRENCY,
            "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": _CONCURRENCY,
        }

    def do(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Have the client do something."""
        assert self.driver is not None, "not started"
        try:
            return self.driver.do(op, **arguments)
        except BrokenContender as error:
            raise BrokenContender(f"{self.name}: {error}") from None

    def pids(self) -> dict[str, list[int]]:
        """The processes by role; `work` is where LiteLLM runs."""
        assert self.driver is not None, "not started"
        return {"client": [self.driver.pid]}

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by role."""
        return {role: cpu_s_of(pids) for role, pids in self.pids().items()}

    def close(self) -> None:
        """End everything. Closing twice is safe."""
        if self.driver is not None:
            self.driver.close()


class Sdk(Contender):
    name = "LiteLLM SDK"
    driver_kind = "sdk"

    def pids(self) -> dict[str, list[int]]:
        return {"work": super().pids()["client"]}


class _OnRedis(Contender):
    def __init__(self, stub: Stub) -> None:
        super().__init__(stub)
        self.valkey = ValkeyServer()
        self.workers: list[ChildProcess] = []

    def serve(self) -> None:
        self.valkey.start()
        self.workers = [self.worker(number) for number in range(self.worker_count)]
        for worker in self.workers:
            worker.start() if not isinstance(worker, WorkerProcess) else worker.launch()
        for worker in self.workers:
            if isinstance(worker, WorkerProcess):
                worker.wait_ready()

    worker_count = 1

    def worker(self, number: int) -> ChildProcess:
        raise NotImplementedError

    def pids(self) -> dict[str, list[int]]:
        return super().pids() | {
            "work": [worker.pid for worker in self.workers],
            "redis": [self.valkey.process.pid],
        }

    def close(self) -> None:
        super().close()
        for worker in self.workers:
            worker.kill()
        self.valkey.close()


class Queue(_OnRedis):
    name = "llm-queue, 1 worker"
    driver_kind = "queue"

    def env(self) -> dict[str, str]:
        return super().env() | {
            "LLM_QUEUE_REDIS_URL": self.valkey.url,
            "LLM_QUEUE_CONCURRENCY": _CONCURRENCY,
        }

    def worker(self, number: int) -> WorkerProcess:
        node = f"bench{number}@localhost"
        command = ["-m", "rustic_ai.llm_queue.worker.cli", "worker", "--name", node, "--log-level", "INFO"]
        return WorkerProcess(self.env(), command=command, nodename=node, ready_timeout_s=180)


class TwoWorkers(Queue):
    name = "llm-queue, 2 workers"
    worker_count = 2


class _Plain(_OnRedis):
    driver_kind = "celery"
    streams = False
    most_in_flight = 100
    pool: tuple[str, ...] = ()
    python = Path(sys.executable)

    def env(self) -> dict[str, str]:
        return super().env() | {"BENCH_REDIS_URL": self.valkey.url}

    def worker(self, number: int) -> WorkerProcess:
        command = ["-m", "celery", "-A", "bench.plain", "worker", "-l", "INFO", *self.pool]
        worker = WorkerProcess(
            self.env() | {"PYTHONPATH": str(ROOT)}, command=command, cwd=ROOT, ready_timeout_s=180
        )
        worker.command[0] = str(self.python)
        return worker


class Prefork(_Plain):
    name = "Celery, prefork of 4"
    pool = ("-P", "prefork", "-c", "4")
    most_in_flight = 4


class Threads(_Plain):
    name = "Celery, 100 threads"
    pool = ("-P", "threads", "-c", "100")


class Gevent(_Plain):
    name = "Celery, gevent of 100"
    pool = ("-P", "gevent", "-c", "100")
    python = OTHER_VENV / "bin" / "python"


class Nothing(_Plain):
    name = "Celery, no-op"
    driver_kind = "nothing"
    most_in_flight = 0
    pool = ("-P", "threads", "-c", "4")


class Proxy(Contender):
    name = "LiteLLM proxy"
    driver_kind = "proxy"
    most_in_flight = 1_000

    def __init__(self, stub: Stub) -> None:
        super().__init__(stub)
        self._port = free_port()
        directory = scratch_dir("proxy")
        config = directory / "config.yaml"
        config.write_text(
            "model_list:\n- model_name: bench\n  litellm_params:\n    model: openai/gpt-4o-mini\n"
            f"    api_base: {stub.base_url}\n    api_key: sk-bench\n"
        )
        command = [str(OTHER_VENV / "bin" / "litellm"), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--num_workers", "1"]
        env = super().env() | {"LITELLM_MASTER_KEY": PROXY_KEY}
        self._server = ChildProcess(command, log_path=directory / "proxy.log", env=env)

    def env(self) -> dict[str, str]:
        return super().env() | {"BENCH_PROXY_URL": f"http://127.0.0.1:{self._port}"}

    def serve(self) -> None:
        self._server.start()
        self._server.wait_for_log("Application startup complete", 180)

    def pids(self) -> dict[str, list[int]]:
        return super().pids() | {"work": [self._server.pid]}

    def close(self) -> None:
        super().close()
        self._server.kill()


_OURS: tuple[type[Contender], ...] = (Sdk, Queue, TwoWorkers, Prefork, Threads, Nothing)
_IN_A_VENV_OF_THEIR_OWN: tuple[type[Contender], ...] = (Gevent, Proxy)


def quick_contenders(stub: Stub) -> list[Contender]:
    """The two that need nothing but this project's own environment, and little time."""
    return [Sdk(stub), Queue(stub)]


def all_contenders(stub: Stub, say: Callable[[str], None]) -> list[Contender]:
    """Everybody who can be measured here; says who cannot."""
    why_not = _make_other_venv()
    kinds = _OURS if why_not else _OURS + _IN_A_VENV_OF_THEIR_OWN
    if why_not:
        names = ", ".join(kind.name for kind in _IN_A_VENV_OF_THEIR_OWN)
        say(f"Left out: {names}; their environment cannot be made: {why_not}")
    return [kind(stub) for kind in kinds]


def _make_other_venv() -> str | None:
    """Make the environment of those we do not depend on. Returns why it cannot be made."""
    if (OTHER_VENV / ".installed").exists():
        return None
    pip = [str(OTHER_VENV / "bin" / "python"), "-m", "pip", "install", "-q", *_IN_OTHER_VENV]
    for command in ([sys.executable, "-m", "venv", str(OTHER_VENV)], pip):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return str(said).strip().splitlines()[-1][:200]
    (OTHER_VENV / ".installed").touch()
    return None
