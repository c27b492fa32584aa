"""LiteLLM's own proxy."""

from __future__ import annotations

from bench.clients.callers import PROXY_KEY
from bench.contenders.contender import Contender
from bench.contenders.other_venv import OTHER_VENV
from bench.lab import Stub
from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.servers.ports import free_port


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
            f"    api_base: {stub.url}/v1\n    api_key: sk-bench\n"
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
