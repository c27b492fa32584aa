from __future__ import annotations

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.view import JobIndex, ListedJob
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..job_table import job_json, job_list
from ..output import json_option, notes, out, print_json
from ..redis_session import on_redis

_STATES = click.Choice([JobState.QUEUED.value, JobState.RUNNING.value])
#: `--limit` bounds what is read, not only what is shown.
LIMIT = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most to show."
)


@click.command()
@click.option("--state", type=_STATES, help="Only those that wait, or only those that run.")
@LIMIT
@json_option
def jobs(state: str | None, limit: int, as_json: bool) -> None:
    """Jobs that wait or run; never what they ask."""

    async def read(redis: Redis, _: QueueSettings) -> list[ListedJob]:
        return await JobIndex(redis).unfinished(limit)

    found = on_redis(read, QueueSettings())
    shown = [one for one in found if state is None or (one.record and one.record.state == state)]
    if as_json:
        print_json([job_json(one) for one in shown])
    else:
        out.print(job_list(shown, f"{len(shown)} jobs that have not ended"))
        if len(found) == limit:
            notes.print(f"there may be more: only {limit} were looked at, see --limit")
