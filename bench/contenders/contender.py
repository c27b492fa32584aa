"""One way to make calls, and LiteLLM in the client's own process as the first of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.clients.models import CONFIGURED, environment, litellm_config
from bench.lab import BrokenContender, DriverProcess, Stub, cpu_s_of
from support.processes.scratch import scratch_dir

#: Calls a worker or a client may have in flight.
CONCURRENCY = "6000"


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
        """Start everything, and make the first calls."""
        self.serve()
        self.driver = DriverProcess(self.driver_kind, self.env())
        self.warm_up()

    def warm_up(self) -> None:
        """The first calls are slower than the rest."""
        self.do("calls", number=100, in_flight=20, prompt="warm up")

    def serve(self) -> None:
        """Start what serves the client."""

    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            **environment(self.stub.url),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            # As many connections as calls, or the SDK would be held up by its own default of 500.
            "AIOHTTP_CONNECTOR_LIMIT": CONCURRENCY,
            "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": CONCURRENCY,
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


class SdkWithConfig(Sdk):
    name = "LiteLLM router"
    driver_kind = "router"

    def env(self) -> dict[str, str]:
        return super().env() | {"BENCH_LITELLM_CONFIG": str(config_file(self.stub.url))}

    def warm_up(self) -> None:
        self.do("calls", number=100, in_flight=20, prompt="warm up", model=f"{CONFIGURED}openai")


def config_file(provider_url: str) -> Path:
    """LiteLLM's config file for all wires."""
    path = scratch_dir("config") / "litellm.yaml"
    path.write_text(litellm_config(provider_url))
    return path
