from __future__ import annotations

from dataclasses import asdict

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.views.job_index import JobIndex, ListedJob
from rustic_ai.llm_queue.tasks.ledger.views.wait_reason import WaitReason, WaitReasons
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..job_id import JOB_ID
from ..job_table import job_json, job_list, moment
from ..listing import counted
from ..output import cell, json_option, notes, out, print_json
from ..redis_session import on_redis

_STATES = click.Choice([JobState.QUEUED.value, JobState.RUNNING.value])
#: `--limit` bounds what is read, not only what is shown.
LIMIT = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most to show."
)


@click.command()
@click.option("--state", type=_STATES, help="Only those that wait, or only those that run.")
@click.option(
    "--why", "job_id", metavar="JOB", type=JOB_ID, help="Why this one waits: where it is, and behind what."
)
@LIMIT
@json_option
def jobs(state: str | None, job_id: str | None, limit: int, as_json: bool) -> None:
    """Jobs that wait or run; never what they ask."""
    if job_id is not None:
        _explain(job_id, as_json=as_json)
        return

    async def read(redis: Redis, _: QueueSettings) -> list[ListedJob]:
        return await JobIndex(redis).unfinished(limit)

    found = on_redis(read, QueueSettings())
    shown = [one for one in found if state is None or (one.record and one.record.state == state)]
    if as_json:
        print_json([job_json(one) for one in shown])
    else:
        title = f"{counted(len(shown), 'job')} {state or 'queued or running'}"
        out.print(job_list(shown, title))
        if len(found) == limit:
            notes.print(f"there may be more: only {limit} were looked at, see --limit")


def _explain(job_id: str, *, as_json: bool) -> None:
    async def read(redis: Redis, _: QueueSettings) -> tuple[ListedJob, WaitReason | None]:
        listed = await JobIndex(redis).job(job_id)
        return listed, await WaitReasons(redis).of(listed.record) if listed.record else None

    listed, reason = on_redis(read, QueueSettings())
    if reason is None:
        raise click.ClickException(f"job {job_id}: {listed.violation}")
    if as_json:
        print_json({"id": job_id, **asdict(reason)})
        return
    until = "" if reason.until is None else f"; that is at about {moment(round(reason.until * 1000))}"
    out.print(cell(f"{reason.explanation}{until}"))
