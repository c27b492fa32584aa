"""What all of `llm-queue`'s commands have in common."""

import json

import pytest

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.worker.cli.main import commands
from support.processes.command import LlmQueue, leaves
from support.servers.ports import free_port

#: They run until they are stopped, and say what they have to say in a log.
SERVERS = {"worker", "flower"}


COMMANDS = dict(leaves(commands))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SERVERS))
def test_every_command_speaks_json(name: str) -> None:
    assert "--json" in {option for one in COMMANDS[name].params for option in one.opts}


def test_every_exit_code_is_explained() -> None:
    said = " ".join(str(commands.help).split())
    for code in ExitCode:
        assert f" {code.value} " in said, code
    assert said.count(";") == len(ExitCode) - 1


def test_keys_and_functions_as_json(llm_queue: LlmQueue) -> None:
    key = json.loads(llm_queue("make-key", "--json").out)["key"]
    assert ":" in key
    assert json.loads(llm_queue("load-functions", "--json").out) == {"loaded": True}


@pytest.mark.parametrize("name", ["load-functions", "jobs", "dead list", "quarantine list"])
def test_without_redis_a_command_ends_with_4(
    name: str, llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    ran = llm_queue(*name.split())
    assert (ran.exit_code, ran.out) == (ExitCode.REDIS, "")
    assert "Redis cannot be reached" in ran.err
