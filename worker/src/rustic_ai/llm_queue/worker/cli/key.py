from __future__ import annotations

import click

from ...tasks.seal import make_key as new_key


@click.command("make-key")
def make_key() -> None:
    """Print a new sealing key, for LLM_QUEUE_SEALING_KEYS or a file of keys.

    To rotate, put the new key before the old ones: the first seals, every one opens.
    """
    click.echo(new_key())
