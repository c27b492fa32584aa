from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

#: Where other distributions, or other parts of this one, bring commands of their own.
ENTRY_POINTS = "rustic_ai.llm_queue.commands"


class CommandGroup(click.Group):
    """A group whose further commands come from entry points, loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=ENTRY_POINTS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if command := super().get_command(ctx, cmd_name):
            return command
        for entry in entry_points(group=ENTRY_POINTS, name=cmd_name):
            return _load(entry)
        return None


def _load(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except ImportError as error:
        return _missing(entry.name, str(error.name))
    assert isinstance(command, click.Command)
    return command


def _missing(name: str, module: str) -> click.Command:
    """A command that says what it needs."""
    said = f"needs the resolver ({module} is missing): pip install 'rusticai-llm-queue[resolver]'"

    @click.command(name, short_help=said, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def missing(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(f"`{name}` {said}")

    missing.help = f"Not here: {said}."
    return missing
