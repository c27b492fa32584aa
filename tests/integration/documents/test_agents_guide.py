"""The agents' guide: its snippets and commands, run as they stand."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild.builders import AgentBuilder
from rustic_ai.core.guild.dsl import DependencySpec

from rustic_ai.llm_queue.resolver import JobHandle, QueueEmbeddingsResolver, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from support.documents.readme import GUIDE, ROOT, blocks, codes, run_snippets
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step

SHELL_LINES = [line for block in blocks("sh", GUIDE) for line in block.splitlines()]


@dataclass(frozen=True)
class Run:
    """The guide's Python, run on real parts."""

    module: Any
    said: str


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    request.getfixturevalue("worker")
    request.getfixturevalue("provider").plan(
        "*", Step(text="Rayleigh.", prompt_tokens=9, completion_tokens=2, times=None)
    )
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    module = run_snippets(GUIDE, tmp_path / "guide_snippets.py", monkeypatch)
    return Run(module, capsys.readouterr().out)


def test_its_python_runs(run: Run, provider: ProviderStub) -> None:
    assert run.said.count("Rayleigh.") == 4, "a completion, a stream, a job and its replay"
    assert "\nFalse\n" in run.said
    module = run.module
    assert f"\n{module.total_usd:.6f} USD\n" in run.said
    assert module.total_usd == pytest.approx(10 * module.response.cost_usd)
    assert "\n1 gpt-4o-mini ok None" in run.said
    # Asked, streamed, submitted; submitted twice under one key; ten times in Latin; and asked anew.
    assert len(provider.requests()) == 3 + 1 + 10 + 1
    provider.plan("*", Step(status=401))
    assert re.search(r"\(1 attempts, job [0-9a-f-]{36}\)", module.ask("Well?"))
    module.test_my_agents()
    module.test_a_reader_who_leaves()


def test_its_agent_answers_in_its_guild(run: Run) -> None:
    def spec(kind: type[Any]) -> Any:
        builder: AgentBuilder[Any, Any] = AgentBuilder(kind)
        return builder.set_id(kind.__name__).set_name(kind.__name__).set_description("Works").build_spec()

    run.module.guild_builder.add_agent_spec(spec(run.module.Answerer))
    guild = run.module.guild_builder.launch("my-org")
    try:
        probe = guild._add_local_agent(spec(ProbeAgent))
        probe.publish(guild.DEFAULT_TOPIC, run.module.Query(text="Why?"))
        wait_until(lambda: probe.received_messages, 40, "the agent's answer")
    finally:
        guild.shutdown()
    assert probe.received_messages[0].payload["choices"][0]["message"]["content"] == "Rayleigh."


def test_its_specification_makes_the_resolver() -> None:
    llm, embeddings = (yaml.safe_load(block)["dependency_map"] for block in blocks("yaml", GUIDE))
    resolver = DependencySpec.model_validate(llm["llm"]).to_resolver()
    assert isinstance(resolver, QueueLLMResolver)
    assert len(resolver.properties.fallback_models) == 2
    resolver = DependencySpec.model_validate(embeddings["embeddings"]).to_resolver()
    assert isinstance(resolver, QueueEmbeddingsResolver)
    assert (resolver.properties.model, resolver.properties.dimensions) == ("text-embedding-3-small", 512)


def test_what_it_installs_is_there() -> None:
    (install,) = [line for line in SHELL_LINES if line.startswith("pip install")]
    (extra,) = re.findall(r"\.\[(\w+)\]", install)
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_its_command_answers() -> None:
    (command,) = [line for line in SHELL_LINES if "python examples" in line]
    variable, program, *arguments = shlex.split(command)
    name, _, value = variable.partition("=")
    assert program == "python"
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, name: value},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "Because they can.\n"), ran.stderr


def test_the_twins_it_names_are_there() -> None:
    names = set(re.findall(r"`(async_\w+)`", GUIDE))
    twins = {name for kind in (QueueLLM, JobHandle) for name, _ in inspect.getmembers(kind, callable)}
    assert names == {name for name in twins if name.startswith("async_")}


def test_the_scripts_in_its_table_can_be_written() -> None:
    (rows,) = re.findall(r"^\| To script \|.*\n\|[-|]+\n((?:\|.*\n)+)", GUIDE, re.MULTILINE)
    for row in rows.splitlines():
        (code,) = codes(row.rpartition(" | ")[2])
        with InMemoryQueue() as queue:
            made = eval(code, {"queue": queue, "InMemoryQueue": InMemoryQueue, **_kinds()})
            assert isinstance(made, InMemoryQueue)


def _kinds() -> dict[str, Any]:
    from rustic_ai.llm_queue.resolver import ErrorKind

    return {"ErrorKind": ErrorKind}
