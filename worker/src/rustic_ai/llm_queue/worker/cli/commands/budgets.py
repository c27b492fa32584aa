from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger
from rustic_ai.llm_queue.tasks.ledger.views.bucket_names import Bucket, bucket_names
from rustic_ai.llm_queue.tasks.policy.budget_rule import MOST_USD
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...settings import WorkerSettings
from ..budget_books import model_names_for, spent_by_the_books
from ..listing import counted, listing
from ..output import echo, json_option, out, print_json
from ..redis_session import on_redis

_COLUMNS = ("budget", "bucket", "of", "period", "used", "spent", "held", "limit", "waiting", "resets (UTC)")


@click.group()
def budgets() -> None:
    """Budgets: what is spent and held of them; set one for its period, or count it anew."""


@budgets.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The budgets of the periods under way, the fullest first.

    The column "of" says whose a bucket is, to those who have the workers' sealing keys.
    """
    _show(lambda row: not row.is_over, as_json=as_json)


@budgets.command()
@click.argument("name", required=False)
@json_option
def history(name: str | None, as_json: bool) -> None:
    """The periods of the last five weeks, of all budgets or of NAME."""
    _show(lambda row: row.is_over and name in (None, row.name), as_json=as_json, named=name)


@budgets.command("set")
@click.argument("name")
@click.argument("amount")
@click.option("--bucket", help="Only the one that `list` shows with this bucket.")
@json_option
def set_(name: str, amount: str, bucket: str | None, as_json: bool) -> None:
    """Set the budget NAME to AMOUNT, in its dollars or tokens, until its period ends.

    Calls that wait for it go when there is room now. `policy` in the place of AMOUNT gives it the amount of
    the policy file again, which alone counts from the next period on.
    """
    value = None if amount == "policy" else _amount(amount)

    async def work(redis: Redis, _: QueueSettings) -> tuple[int, list[BudgetRow]]:
        rows = [row for row in await BudgetView(redis).rows() if not row.is_over]
        named = [row for row in rows if row.name == name and bucket in (None, row.bucket)]
        cap = None if value is None or not named else round(value * named[0].scale)
        count = await LimitLedger(redis).set_budgets([row.id for row in named], cap)
        return count, rows

    count, rows = on_redis(work, QueueSettings())
    buckets = sorted(row.bucket for row in rows if row.name == name)
    if not count and buckets:
        echo(f"llm-queue: {bucket!r} is no bucket of {name!r}; there are {', '.join(buckets)}", err=True)
        sys.exit(ExitCode.FAILED)
    if not count:
        _unknown(name, sorted({row.name for row in rows}))
    if as_json:
        print_json({"budget": name, "set": count, "amount": value})
    else:
        amount_set = "the policy's" if value is None else f"{value:g}"
        echo(f"{name} is {amount_set}, in {counted(count, 'bucket')}")


@budgets.command()
@click.argument("name")
@json_option
def rebuild(name: str, as_json: bool) -> None:
    """Count anew, from the books, what the budget NAME has spent in its period.

    For a Redis that was restored from an older file. The books know organisations, guilds, agents, models
    and days in UTC: a budget that matches or is split by anything else is not rebuilt, nor one that has a
    price for the tokens of models without one. What lost calls may have cost is not in the books.
    """
    worker = WorkerSettings()
    rule = next((one for one in worker.budgets if one.name == name), None)
    if rule is None:
        _unknown(name, sorted(one.name for one in worker.budgets))
    assert rule is not None
    names = model_names_for(rule, worker)

    async def work(redis: Redis, settings: QueueSettings) -> int:
        amounts = await spent_by_the_books(redis, rule, settings.key_ring().limit_key, names)
        return await LimitLedger(redis).spend_budgets(amounts)

    try:
        count = on_redis(work, QueueSettings())
    except ValueError as error:
        echo(f"llm-queue: {error}", err=True)
        sys.exit(ExitCode.FAILED)
    if as_json:
        print_json({"budget": name, "rebuilt": count})
    else:
        echo(f"{counted(count, 'bucket')} of {name} counted anew")


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # NaN is in no range.
    if not 0 <= value <= MOST_USD * 1e9:
        raise click.BadParameter(f"{text!r} is no amount: give dollars or tokens, or the word policy")
    return value


def _show(wanted: Callable[[BudgetRow], bool], *, as_json: bool, named: str | None = None) -> None:
    async def read(redis: Redis, settings: QueueSettings) -> tuple[list[BudgetRow], dict[Bucket, str]]:
        rows = await BudgetView(redis).rows()
        buckets = ((row.name, row.bucket) for row in rows)
        return rows, await bucket_names(redis, buckets, settings.key_ring().limit_key)

    kept, names = on_redis(read, QueueSettings())
    if named is not None and named not in (known := {row.name for row in kept}):
        _unknown(named, sorted(known))
    rows = sorted(filter(wanted, kept), key=lambda row: (-row.used, row.name, row.period))
    if as_json:
        of = {row.id: names.get((row.name, row.bucket)) for row in rows}
        print_json([{**asdict(row), "used": round(row.used, 4), "of": of[row.id]} for row in rows])
        return
    shown = [
        (
            row.name, row.bucket, names.get((row.name, row.bucket), ""), row.period,
            f"{row.used:.0%}", _shown(row, row.spent),
            _shown(row, row.held), f"{_shown(row, row.limit)}{' (set)' if row.is_set else ''}",
            f"{row.waiting:,}", _end(row),
        )
        for row in rows
    ]  # fmt: skip
    out.print(listing(counted(len(rows), "budget"), _COLUMNS, shown))


def _end(row: BudgetRow) -> str:
    return datetime.fromtimestamp(row.ends_at, UTC).strftime("%Y-%m-%d %H:%M") if row.ends_at else "never"


def _shown(row: BudgetRow, amount: float) -> str:
    return f"${amount:,.4f}" if row.unit == "usd" else f"{amount:,.0f}"


def _unknown(name: str, known: list[str]) -> None:
    there_are = f"there are {', '.join(known)}" if known else "there are none in use"
    echo(f"llm-queue: {name!r} is no budget in use; {there_are}", err=True)
    sys.exit(ExitCode.FAILED)
