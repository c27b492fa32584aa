from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

#: For people: progress and notes go beside the output, so that a pipe gets the output alone.
out = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


def json_option[F: Callable[..., Any]](command: F) -> F:
    """Gives a command `--json`: its result as JSON on standard output, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(value: Any) -> None:
    """Print `value` as JSON; amounts stay exact as text."""
    click.echo(json.dumps(value, default=str, ensure_ascii=False, indent=2))
