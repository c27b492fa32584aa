from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click

#: Where other distributions, or other parts of this one, bring commands of their own.
ENTRY_POINTS = "rustic_ai.llm_queue.commands"


class CommandGroup(click.Group):
    """A group that imports a command when it is asked for: its own, and those of entry points."""

    def __init__(self, *args: Any, own: Mapping[str, str], **kwargs: Any) -> None:
        """Args:
        own: each command's name and its place in `commands/`, as `module:attribute`.
        """
        super().__init__(*args, **kwargs)
        self._own = own

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._own, *entry_points(group=ENTRY_POINTS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if place := self._own.get(cmd_name):
            return _load(cmd_name, lambda: _own_command(place), extra="worker")
        for entry in entry_points(group=ENTRY_POINTS, name=cmd_name):
            return _load(cmd_name, entry.load, extra="resolver")
        return None


def _own_command(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(import_module(f"{__package__}.commands.{module}"), name)


def _load(name: str, load: Callable[[], object], *, extra: str) -> click.Command:
    try:
        command = load()
    except ImportError as error:
        return _missing(name, str(error.name), extra)
    assert isinstance(command, click.Command)
    return command


def _missing(name: str, module: str, extra: str) -> click.Command:
    """A command that reports which part of the project it needs."""
    message = f"needs the {extra} ({module} is missing): pip install 'rusticai-llm-queue[{extra}]'"

    @click.command(name, short_help=message, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def missing(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(f"`{name}` {message}")

    missing.help = f"Not here: {message}."
    return missing
