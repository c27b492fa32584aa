"""Everything that a command prints goes through here, and so through one escaping function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from rustic_ai.llm_queue.tasks.privacy.printable import printable, printable_json


class _SafeConsole(Console):
    """A console that shows no text as it came: names are the tenants' own words."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, keep="\n")
            yield Segment(text, segment.style, segment.control)


#: For people: progress and notes go beside the output, so that a pipe gets the output alone.
out = _SafeConsole(highlight=False)
notes = _SafeConsole(stderr=True, highlight=False)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line, to standard error if `err`."""
    click.echo(printable(text, keep="\n\t"), err=err)


def cell(value: object) -> str:
    """A value for a rich table or line: its brackets are no markup, and its width is what is shown."""
    return escape(printable(value))


def json_option[F: Callable[..., Any]](command: F) -> F:
    """Gives a command `--json`: its result as JSON on standard output, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(value: Any) -> None:
    """Print `value` as JSON; amounts stay exact as text."""
    click.echo(printable_json(value))


def note_left_out(count: int) -> None:
    """Say, beside the output, how many records could not be read and are missing from it."""
    if count:
        records = "1 record" if count == 1 else f"{count} records"
        notes.print(f"{records} could not be read and {'is' if count == 1 else 'are'} left out")
