from __future__ import annotations

import click

from rustic_ai.llm_queue.tasks.job import PRIORITY_NAMES

#: For commands that submit jobs.
priority_option = click.option(
    "--priority", type=click.Choice(list(PRIORITY_NAMES)), default="normal", show_default=True,
    help="Which jobs go first, where jobs wait.",
)  # fmt: skip
