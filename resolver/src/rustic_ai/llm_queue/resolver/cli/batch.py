from __future__ import annotations

from pathlib import Path

import click

from rustic_ai.llm_queue.tasks.job import PRIORITY_NAMES, PriorityName

from .priority_option import priority_option

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("requests", type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Where the answers go, and those of a run that stopped are.")  # fmt: skip
@click.option("-m", "--model", envvar="LLM_QUEUE_MODEL", help="For requests that name none.")
@click.option("--max-in-flight", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
              help="Seconds for each request, waiting and retries included.")  # fmt: skip
@priority_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures at the end as JSON.")
def batch(
    requests: Path,
    output: Path,
    model: str | None,
    max_in_flight: int,
    timeout: float,
    priority: PriorityName,
    as_json: bool,
) -> None:
    """Carry out a file of REQUESTS in OpenAI's batch format.

    Each line becomes a line of the output, in the order in which they are done. A line that is
    broken, or fails, is an error there and stops no other. The same command goes on where it was
    stopped: what is answered is not asked again, what failed is. Exits with 1 when a line failed.
    """
    # Here, because it brings Rustic and openai with it, which `llm-queue --help` does not need.
    from .batch_file import carry_out

    carry_out(
        requests,
        output,
        model=model,
        max_in_flight=max_in_flight,
        timeout_s=timeout,
        priority=PRIORITY_NAMES[priority],
        as_json=as_json,
    )
