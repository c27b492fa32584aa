from __future__ import annotations

import sys

import click

from ...tasks.settings import SettingsError
from .flower import flower
from .functions import load_functions
from .key import make_key
from .worker import worker

#: Exit codes: 0 done, 1 not done (the message says why), 2 wrong usage, 3 a setting is wrong.
EXIT_SETTINGS = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rusticai-llm-queue")
def commands() -> None:
    """Run and steer the workers of a queue-backed LLM. Settings come from LLM_QUEUE_… variables."""


commands.add_command(worker)
commands.add_command(flower)
commands.add_command(make_key)
commands.add_command(load_functions)


def main() -> None:
    """The `llm-queue` command."""
    try:
        commands(prog_name="llm-queue")
    except SettingsError as error:
        click.echo(f"llm-queue: {error}", err=True)
        sys.exit(EXIT_SETTINGS)
