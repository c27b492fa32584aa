"""Writes docs/commands.md from the commands themselves: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rustic_ai.llm_queue.worker.cli.main import commands

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
_HEAD = """# Commands

This page is written by `make docs` from the commands' own help.
"""
_WIDTH = 100


def page() -> str:
    """The page's text."""
    return "\n".join([_HEAD, *_sections(commands, _context(commands, "llm-queue"))])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command's help, and then that of those below it."""
    context.max_content_width = context.terminal_width = _WIDTH
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _sections(below, _context(below, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, parent, name, **command.context_settings)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
