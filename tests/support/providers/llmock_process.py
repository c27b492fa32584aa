"""llmock in a process of its own: the independent simulator that judges its client.

What llmock 0.2.2 gives: OpenAI (chat and Responses), Anthropic, Gemini, Cohere v2, Mistral, Groq and more in
their own wire and error formats; behaviours queued for all requests that match a provider, model, path or
stream flag (never by prompt, and one queue for all callers); errors with Retry-After, delays, slow first
tokens, stream faults (disconnect, truncate, stall, malformed), scripted texts and tool calls, quotas and a
context window; a record of every request (path, model, body up to 256 kB, status, start and end, fault,
chunks); a verdict on the client.

What it lacks, and `ProviderStub` has: Azure and Hugging Face, headers on record, the text
that was sent, the moment a client hangs up while it waits (a delayed answer runs to its end and counts as
answered), plans by prompt, an ``n`` of different choices, reasoning and cached tokens, thousands of calls
held open (its streams are synchronous generators in a thread pool). Requests still open are not on record.

The verdict joins attempts by equal method, path and body. A fallback to another model or provider is a new
call to it, so the first model's call counts as given up; and its record's end is when the last byte was
handed to the kernel.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, Self

import httpx
from llmock.journal import RequestRecord
from llmock.scenarios import (
    Behavior,
    Delay,
    Fail,
    Match,
    Reply,
    SlowFirstToken,
    StreamFault,
    ToolCall,
    ToolFault,
    behavior_to_dict,
)
from llmock.verdict import Verdict, judge

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.ports import free_port

__all__ = [
    "Delay",
    "Fail",
    "LlmockProcess",
    "Match",
    "Reply",
    "SlowFirstToken",
    "StreamFault",
    "ToolCall",
    "ToolFault",
]

API_KEY = "sk-test-not-a-real-key"
# What LiteLLM wants as `api_base`, which is not always what the provider's own SDK wants.
_BASE_PATHS = {
    "openai": "/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini/v1beta",
    "cohere": "/cohere/v2/chat",
    "mistral": "/mistral/v1",
    "groq": "/groq/openai/v1",
}


class LlmockProcess:
    """The server, its script and its verdict.

    Example::

        llmock.add(Fail(429, retry_after=1.0), Fail(503, match=Match(provider="anthropic")))
        ...  # the worker calls
        llmock.assert_clean()

    Args:
        options: more of ``llmock serve``'s options, such as ``{"rpm": "60", "response-style": "echo"}``.
    """

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "llmock.cli", "serve", "--port", str(self.port)]
        command += ["--log-level", "warning"]
        for name, value in (options or {}).items():
            command += [f"--{name}", value]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LLMOCK_")}
        log_path = scratch_dir("llmock") / "llmock.log"
        self.process = ChildProcess(command, log_path=log_path, env=clean)
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def base_url(self, provider: str = "openai") -> str:
        """LiteLLM's ``api_base`` for openai, anthropic, gemini, cohere, mistral or groq."""
        return self.url + _BASE_PATHS[provider]

    def env(self) -> dict[str, str]:
        """A worker's environment in which LiteLLM finds OpenAI, Anthropic, Gemini and Cohere here."""
        return {
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_API_BASE": self.base_url("openai"),
            "OPENAI_BASE_URL": self.base_url("openai"),
            "ANTHROPIC_API_KEY": API_KEY,
            "ANTHROPIC_API_BASE": self.base_url("anthropic"),
            "GEMINI_API_KEY": API_KEY,
            "GEMINI_API_BASE": self.base_url("gemini"),
            "COHERE_API_KEY": API_KEY,
            "COHERE_API_BASE": self.base_url("cohere"),
        }

    def add(self, *behaviors: Behavior) -> None:
        """Queue behaviours; each is used up by ``times`` requests that its `Match` accepts."""
        payload: list[dict[str, Any]] = [behavior_to_dict(one) for one in behaviors]
        answer = self._http.post("/_llmock/scenario", json={"behaviors": payload})
        assert answer.is_success, f"llmock refused {payload}: {answer.text}"

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request that has ended, in order of arrival; waits up to 2 s for those under way."""
        listed = self._http.get("/_llmock/requests").raise_for_status().json()["requests"]
        return [RequestRecord(**{k: v for k, v in one.items() if k != "duration"}) for one in listed]

    def verdict(self) -> Verdict:
        """How the client coped; see llmock.verdict."""
        return judge(self.requests)

    def assert_clean(self) -> None:
        """Raises AssertionError with the report unless the strict verdict is clean."""
        self.verdict().assert_ok(strict=True)

    def reset(self) -> None:
        """Forget requests, queued behaviours and spent quotas."""
        self._http.post("/_llmock/reset").raise_for_status()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process.start()

        def healthy() -> bool:
            assert self.process.running, f"llmock has ended:\n{self.process.log_tail()}"
            try:
                return self._http.get("/health").is_success
            except httpx.TransportError:
                return False

        wait_until(healthy, 30, "llmock to answer")

    def close(self) -> None:
        """Kill it. Closing twice is safe."""
        self._http.close()
        self.process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
