"""`llm-queue`, run in this process or in one of its own."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from rustic_ai.llm_queue.worker.cli import output
from rustic_ai.llm_queue.worker.cli.main import commands, main
from support.processes.process import ChildProcess


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    exit_code: int
    out: str
    err: str


class LlmQueue:
    """Runs the command with the settings of the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, width: int = 160) -> Ran:
        """Run it here: its imports are there already. The terminal has `width` columns."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["llm-queue", *arguments])
        # So that tables keep their columns.
        for console in (output.out, output.notes):
            self._monkeypatch.setattr(console, "width", width)
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
        out, err = self._capsys.readouterr()
        return Ran(int(str(code or 0)), out, err)


def command_process(*arguments: str, env: Mapping[str, str], log_path: Path) -> ChildProcess:
    """The command as a process, for what a signal does to it."""
    return ChildProcess(
        [sys.executable, "-m", "rustic_ai.llm_queue.worker.cli", *arguments], log_path=log_path, env=dict(env)
    )


def command_names() -> list[str]:
    """Every command, those of groups with their group's name before them."""
    return sorted(name for name, _ in leaves(commands))


def leaves(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group, and of the groups in it, by their full names."""
    context = click.Context(group, **commands.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield " ".join((*path, name)), command
