"""The README's snippets and commands, run as they stand."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild import Agent
from rustic_ai.core.guild.builders import AgentBuilder
from rustic_ai.core.guild.dsl import AgentSpec
from rustic_ai.core.messaging.core.message import Message

from support.documents.readme import README, blocks, run_snippets
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub
from support.workers.worker import WorkerProcess

SHELL_LINES = [line for block in blocks("sh") for line in block.splitlines()]
WORKER_COMMANDS = [line for line in SHELL_LINES if line.startswith(("llm-queue worker", "celery"))]


@pytest.mark.usefixtures("worker")
def test_its_python_runs(
    redis_url: str,
    provider: ProviderStub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    snippets = run_snippets(README, tmp_path / "readme_snippets.py", monkeypatch)
    said = capsys.readouterr().out
    assert snippets.text
    assert said.count(snippets.text) == 2
    assert "\nFalse\n" in said
    assert len(_ask_agents(snippets, "Answerer", "AsyncAnswerer")) == 2
    assert [one.model for one in provider.requests()[-2:]] == ["gpt-4", "gpt-4"]


def _ask_agents(snippets: ModuleType, *names: str) -> list[Message]:
    for name in names:
        snippets.guild_builder.add_agent_spec(_spec(getattr(snippets, name)))
    guild = snippets.guild_builder.launch("my-org")
    try:
        probe = guild._add_local_agent(_spec(ProbeAgent))
        probe.publish(guild.DEFAULT_TOPIC, snippets.QueryRequest(query="Why?"))
        wait_until(lambda: len(probe.received_messages) == len(names), 40, "an answer of each agent")
        heard: list[Message] = probe.received_messages
        return heard
    finally:
        guild.shutdown()


def _spec(kind: type[Agent[Any]]) -> AgentSpec[Any]:
    builder: AgentBuilder[Any, Any] = AgentBuilder(kind)
    return builder.set_id(kind.__name__).set_name(kind.__name__).set_description("Works").build_spec()


@pytest.mark.parametrize("command", WORKER_COMMANDS)
def test_its_worker_commands_start_a_worker(
    command: str, start_fresh_worker: Callable[..., WorkerProcess], redis_url: str
) -> None:
    program, *arguments = shlex.split(command)
    module = {"llm-queue": "rustic_ai.llm_queue.worker.cli", "celery": "celery"}[program]
    env = {"LLM_QUEUE_REDIS_URL": redis_url, "PATH": os.environ["PATH"]}
    worker = start_fresh_worker(env, command=["-m", module, *arguments])
    assert "concurrency: 1000 (pool)" in worker.logs()
    assert "cost map" not in worker.logs(), "LiteLLM fetches its price map"


def test_there_are_two_ways_to_start_a_worker() -> None:
    assert [shlex.split(command)[0] for command in WORKER_COMMANDS] == ["llm-queue", "celery"]
