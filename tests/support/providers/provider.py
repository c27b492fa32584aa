"""Providers on loopback, each in a process of its own.

`ProviderStub` is our own simulator: many conversations side by side, each with a plan of its own, picked
by a ``#tag`` in the prompt, and a record that shows headers, texts and when the client hung up.
See `support.providers.llmock_process` for the independent one that judges its client.
"""

import os
import sys
from pathlib import Path
from typing import Self

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.providers.provider_answer import derived_answer
from support.providers.provider_client import API_KEY, ProviderClient
from support.providers.provider_plan import Plan, ProviderRequest, Step, ToolCall
from support.servers.ports import free_port

__all__ = ["API_KEY", "Plan", "ProviderRequest", "ProviderStub", "Step", "ToolCall", "derived_answer"]


class ProviderStub(ProviderClient):
    """The simulator, and the way to script and to read it.

    Example::

        with ProviderStub() as stub:
            stub.plan("q1", Step(status=429, retry_after_s=1), Step(text="42"))
            ...  # a client asks "what is it? #q1" at stub.base_url("openai")
            assert [one.status for one in stub.requests("q1")] == [429, 200]
            stub.assert_clean()
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        tests = Path(__file__).parents[2]
        paths = [str(tests), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = ChildProcess(
            [sys.executable, "-m", "support.providers.openai_stub", "--port", str(self.port)],
            log_path=scratch_dir("provider") / "provider.log",
            env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process.start()
        self.process.wait_for_log("listening on", 30)

    def close(self) -> None:
        """Kill it. Closing twice is safe."""
        super().close()
        self.process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
