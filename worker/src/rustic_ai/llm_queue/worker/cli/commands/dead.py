from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.ledger.keys import result_key
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.views.job_index import JobIndex, ListedJob
from rustic_ai.llm_queue.tasks.outcome import Failed
from rustic_ai.llm_queue.tasks.result import decode_result
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..job_id import JOB_ID
from ..job_table import job_json, job_list
from ..listing import counted
from ..output import cell, json_option, out, print_json
from ..redis_session import on_redis
from .jobs import LIMIT

_Error = dict[str, Any] | None

#: `--all` goes through the dead in pages of this many.
_PAGE = 500

_ids = click.argument("job_ids", metavar="[ID]...", nargs=-1, type=JOB_ID)
_all = click.option("--all", "every", is_flag=True, help="All that are dead now.")


@click.group()
def dead() -> None:
    """Jobs that failed for good: list, show, replay or drop them."""


@dead.command("list")
@LIMIT
@json_option
def list_(limit: int, as_json: bool) -> None:
    """The dead, the latest first; never what they asked."""

    async def read(redis: Redis, _: QueueSettings) -> list[ListedJob]:
        return await JobIndex(redis).dead(limit)

    jobs = on_redis(read, QueueSettings())
    if as_json:
        print_json([job_json(one) for one in jobs])
    else:
        out.print(job_list(jobs, counted(len(jobs), "dead job")))


@dead.command()
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--json", is_flag=True, expose_value=False, help="As it does without.")
def show(job_id: str) -> None:
    """All that is known of a job, as JSON: its attempts, and the error if this environment can open it.

    Exit code 1 when the job is not known.
    """
    listed, error = on_redis(lambda redis, settings: _read(redis, settings, job_id), QueueSettings())
    print_json({**job_json(listed), "error": error})
    if listed.record is None:
        sys.exit(ExitCode.FAILED)


@dead.command()
@_ids
@_all
@json_option
def replay(job_ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Start dead jobs anew under their own ids. Exit code 1 when one of them was not dead."""
    settings = QueueSettings()

    async def one(redis: Redis, job_id: str) -> bool:
        return await Ledger(redis, result_ttl=settings.result_ttl).replay(job_id)

    _report(_for_each(job_ids, every, one, settings), as_json, done="is back on the queue")


@dead.command()
@_ids
@_all
@json_option
def drop(job_ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Forget dead jobs, and what is left of them. Exit code 1 when one of them was not dead."""
    settings = QueueSettings()

    async def one(redis: Redis, job_id: str) -> bool:
        return await Ledger(redis, result_ttl=settings.result_ttl).drop(job_id)

    _report(_for_each(job_ids, every, one, settings), as_json, done="is forgotten")


def _for_each(
    job_ids: tuple[str, ...],
    every: bool,
    act: Callable[[Redis, str], Awaitable[bool]],
    settings: QueueSettings,
) -> dict[str, bool]:
    """Whether each was dead, and what was asked for is done."""
    if every == bool(job_ids):
        raise click.UsageError("give the ids of dead jobs, or --all")

    async def work(redis: Redis, _: QueueSettings) -> dict[str, bool]:
        index = JobIndex(redis)
        chosen = [one.job_id for one in await index.dead(_PAGE)] if every else job_ids
        ended: dict[str, bool] = {}
        while chosen:
            for job_id in chosen:
                ended[job_id] = await index.is_dead(job_id) and await act(redis, job_id)
            later = await index.dead(_PAGE) if every else []
            # What could not be done is still there; it is tried once.
            chosen = [one.job_id for one in later if one.job_id not in ended]
        return ended

    return on_redis(work, settings)


def _report(ended: dict[str, bool], as_json: bool, *, done: str) -> None:
    if as_json:
        print_json(ended)
    else:
        if not ended:
            out.print("no job is dead")
        for job_id, was_done in ended.items():
            out.print(f"{cell(job_id)} {done if was_done else 'is not among the dead'}")
    if not all(ended.values()):
        sys.exit(ExitCode.FAILED)


async def _read(redis: Redis, settings: QueueSettings, job_id: str) -> tuple[ListedJob, _Error]:
    listed = await JobIndex(redis).job(job_id)
    raw = await redis.get(result_key(job_id))
    if listed.record is None or raw is None:
        return listed, None
    owner = listed.record.job.owner
    try:
        outcome = decode_result(str(raw), job_id=job_id, owner=owner, sealer=settings.sealer()).outcome
    except ContractViolation as violation:
        return listed, {"unreadable": str(violation)}
    if not isinstance(outcome, Failed):
        return listed, None
    return listed, outcome.error.model_dump(mode="json", exclude_none=True)
