from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta

import click
from redis.asyncio import Redis
from rich.console import RenderableType

from rustic_ai.llm_queue.tasks.duration import parse_duration
from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitRow, LimitView
from rustic_ai.llm_queue.tasks.ledger.views.bucket_names import Bucket, bucket_names
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...provider.targets.litellm_config import read_litellm_config
from ...settings import WorkerSettings
from ..listing import counted, listing
from ..output import echo, json_option, out, print_json
from ..redis_session import on_redis

_COLUMNS = (
    "limit",
    "bucket",
    "of",
    "running",
    "waiting",
    "oldest wait",
    "requests",
    "tokens",
    "closed",
    "why",
)


@click.command()
@json_option
def limits(as_json: bool) -> None:
    """Limits in use: what runs within them, what waits for them, and what has closed them.

    The columns "requests" and "tokens" are the seconds until that bucket is whole again. "of" says whose a
    bucket is, to those who have the workers' sealing keys.
    """

    async def read(redis: Redis, settings: QueueSettings) -> tuple[list[LimitRow], dict[Bucket, str]]:
        rows = await LimitView(redis).rows()
        buckets = ((row.name, row.bucket) for row in rows)
        return rows, await bucket_names(redis, buckets, settings.key_ring().limit_key)

    rows, names = on_redis(read, QueueSettings())
    if as_json:
        print_json([{**asdict(row), "of": names.get((row.name, row.bucket))} for row in rows])
    else:
        out.print(_list(rows, names))


@click.command()
@click.argument("name")
@click.option("--until", "until", metavar="DURATION", help="For so long, such as 30s, 10m or 2h.")
@json_option
def pause(name: str, until: str | None, as_json: bool) -> None:
    """Let no call pass the limits NAME: they wait, until `resume` or for a while.

    Calls under way go on. A limit's name is the policy file's, or as `limits` shows it.
    """
    span = parse_duration(until) if until is not None else None
    if until is not None and (not isinstance(span, timedelta) or span <= timedelta(0)):
        raise click.BadParameter(f"{until!r} is no duration: give 30s, 10m or 2h", param_hint="--until")

    async def work(redis: Redis, settings: QueueSettings) -> list[str]:
        known = await _known(redis)
        if name in known:
            ledger = Ledger(redis, result_ttl=settings.result_ttl)
            until_ms = None if span is None else await ledger.now_ms() + round(span.total_seconds() * 1000)
            await ledger.limits.pause_limit(name, until_ms=until_ms)
        return known

    known = on_redis(work, QueueSettings())
    if name not in known:
        _unknown(name, known)
    if as_json:
        print_json({"limit": name, "paused_s": span.total_seconds() if isinstance(span, timedelta) else None})
    else:
        echo(f"{name} is paused {'until it is resumed' if until is None else f'for {until}'}")


@click.command()
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Open the limits NAME again, whether an operator or a provider has closed them."""

    async def work(redis: Redis, settings: QueueSettings) -> tuple[int, list[str]]:
        opened = await Ledger(redis, result_ttl=settings.result_ttl).limits.resume_limit(name)
        return opened, await _known(redis)

    opened, known = on_redis(work, QueueSettings())
    if not opened and name not in known:
        _unknown(name, known)
    if as_json:
        print_json({"limit": name, "opened": bool(opened)})
    else:
        echo(f"{name} is open" if opened else f"{name} was open")


async def _known(redis: Redis) -> list[str]:
    settings = WorkerSettings()
    configured = {rule.name for rule in settings.limit_rules()}
    if settings.litellm_config is not None:
        configured |= {rule.name for rule in read_litellm_config(settings.litellm_config).limits}
    return sorted(configured | {row.name for row in await LimitView(redis).rows()})


def _unknown(name: str, known: list[str]) -> None:
    there_are = f"there are {', '.join(known)}" if known else "there are none, in the policy or in use"
    echo(f"llm-queue: {name!r} is no limit; {there_are}", err=True)
    sys.exit(ExitCode.FAILED)


def _list(rows: list[LimitRow], names: dict[Bucket, str]) -> RenderableType:
    shown = [
        (
            row.name, row.bucket, names.get((row.name, row.bucket), ""),
            f"{row.running:,}", f"{row.waiting:,}",
            f"{row.oldest_wait_s:.0f} s" if row.waiting else "", _seconds(row.requests_s),
            _seconds(max(row.tokens_s, row.output_s)), closed_for(row), row.why,
        )
        for row in rows
    ]  # fmt: skip
    return listing(f"{counted(len(rows), 'limit')} in use", _COLUMNS, shown)


def closed_for(row: LimitRow) -> str:
    """For how long a limit stays closed or paused; empty for one that is open."""
    if row.paused_s is None:
        return "paused"
    if row.paused_s:
        return f"paused, {row.paused_s:.0f} s more"
    return f"{row.closed_s:.0f} s more" if row.closed_s else ""


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value else ""
