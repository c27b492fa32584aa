from __future__ import annotations

import click

from rustic_ai.llm_queue.tasks.privacy.seal import make_key as new_key

from ..output import echo, json_option, print_json


@click.command("make-key")
@json_option
def make_key(as_json: bool) -> None:
    """Print a new sealing key, for LLM_QUEUE_SEALING_KEYS or a file of keys.

    To rotate, put the new key before the old ones: the first seals, every one opens.
    """
    key = new_key()
    if as_json:
        print_json({"key": key})
    else:
        echo(key)
