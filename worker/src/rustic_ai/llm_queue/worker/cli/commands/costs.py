from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
from redis.asyncio import Redis
from rich.console import RenderableType
from rich.table import Table

from rustic_ai.llm_queue.tasks.ledger.books import Books, CostRow
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..listing import fits, lines
from ..output import cell, json_option, note_left_out, out, print_json
from ..redis_session import on_redis

_COLUMNS = ("day", "org", "guild", "agent", "model", "kind")
_DAY = click.DateTime(["%Y-%m-%d"])


@dataclass
class _Sum:
    jobs: int = 0
    unpriced: int = 0
    cost_usd: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    saved_usd: Decimal = Decimal(0)

    def add(self, row: CostRow) -> None:
        self.jobs += row.jobs
        self.unpriced += row.unpriced
        self.cost_usd += row.cost_usd
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.cached += row.cached
        self.saved_usd += row.saved_usd

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "cost_usd": f"{self.cost_usd:f}", "saved_usd": f"{self.saved_usd:f}"}


_Sums = Sequence[tuple[tuple[Any, ...], _Sum]]


def _columns(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in value.split(",") if name.strip())
    if unknown := [name for name in columns if name not in _COLUMNS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(_COLUMNS)}")
    return columns or ("model",)


@click.command()
@click.option("--by", callback=_columns, default="org,model", show_default=True,
              help="Sum up by day, org, guild, agent, model, kind, or several with commas.")  # fmt: skip
@click.option("--since", type=_DAY, help="First day (UTC), as 2026-01-31; by default 30 days in all.")
@click.option("--until", type=_DAY, help="Last day (UTC), by default today.")
@click.option("--org", help="Only this organisation.")
@click.option("--own-endpoints", is_flag=True,
              help="What jobs did at endpoints of their own: by those servers' word.")  # fmt: skip
@json_option
def costs(
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    org: str | None,
    own_endpoints: bool,
    as_json: bool,
) -> None:
    """What the jobs cost, to the last picodollar, from the books in Redis.

    Days are UTC's, a job counts on the day it ended. Amounts are those of the responses' `cost_usd`;
    `unpriced` counts answers of models without a price, `cached` those that needed no call of their own.
    What jobs did at endpoints that they named themselves is in no sum; `--own-endpoints` shows it alone.
    """
    first, last, rows, unreadable = on_redis(
        lambda redis, _: _read(redis, since and since.date(), until and until.date(), own_endpoints),
        QueueSettings(),
    )
    note_left_out(unreadable)
    rows = [row for row in rows if org is None or row.org == org]
    sums, total = _summed(rows, by)
    if as_json:
        groups = [{**dict(zip(by, map(str, key), strict=True)), **one.to_json()} for key, one in sums]
        span = {"since": str(first), "until": str(last)}
        print_json({**span, "by": by, "rows": groups, "total": total.to_json()})
        return
    what = "Tokens at tenants' own endpoints" if own_endpoints else "Costs"
    out.print(_shown_sums(by, sums, total, f"{what} from {first} to {last} (UTC)"))


async def _read(
    redis: Redis, first: date | None, last: date | None, own_endpoints: bool
) -> tuple[date, date, list[CostRow], int]:
    ledger = Books(redis)
    last = last or await ledger.today()
    first = first or last - timedelta(days=29)
    if first > last:
        raise click.BadParameter(f"{first} is after {last}", param_hint="--since")
    rows = await ledger.rows(first, last, own_endpoints=own_endpoints)
    return first, last, rows, ledger.unreadable


def _summed(rows: Iterable[CostRow], by: Sequence[str]) -> tuple[_Sums, _Sum]:
    sums: dict[tuple[Any, ...], _Sum] = {}
    total = _Sum()
    for row in rows:
        sums.setdefault(tuple(getattr(row, name) for name in by), _Sum()).add(row)
        total.add(row)
    # Days in their order, what costs most first within them.
    ordered = sorted(sums.items(), key=lambda item: (item[0][0] if by[0] == "day" else 0, -item[1].cost_usd))
    return ordered, total


def _shown_sums(by: Sequence[str], sums: _Sums, total: _Sum, title: str) -> RenderableType:
    table = _table(by, sums, total, title)
    if not fits(table):
        # Lines take room, too.
        table.box, table.pad_edge = None, False
    if fits(table):
        return table
    cached = _cached(total)
    columns = [*by, *(name.replace("\n", " ") for name in _shown(total, cached=cached))]
    rows = [[*map(str, key), *_shown(one, cached=cached).values()] for key, one in sums]
    whole = ["total", *[""] * (len(by) - 1), *_shown(total, cached=cached).values()]
    return lines(title, columns, [*rows, whole], head=len(by))


def _cached(total: _Sum) -> bool:
    """Two columns less where nobody uses the cache."""
    return total.cached > 0 or total.saved_usd > 0


def _table(by: Sequence[str], sums: _Sums, total: _Sum, title: str) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True)
    # Heads of two lines leave room for names.
    for at, name in enumerate(by):
        table.add_column(name, footer="" if at else "total", overflow="fold")
    cached = _cached(total)
    for name, value in _shown(total, cached=cached).items():
        table.add_column(name, footer=value, justify="right")
    for key, one in sums:
        table.add_row(*(cell(part) for part in key), *_shown(one, cached=cached).values())
    return table


def _shown(one: _Sum, *, cached: bool) -> dict[str, str]:
    return {
        "jobs": f"{one.jobs:,}",
        "unpriced": f"{one.unpriced:,}",
        "prompt\ntokens": f"{one.prompt_tokens:,}",
        "completion\ntokens": f"{one.completion_tokens:,}",
        "USD": f"{one.cost_usd.normalize():f}",
        **({"cached": f"{one.cached:,}", "saved\nUSD": f"{one.saved_usd.normalize():f}"} if cached else {}),
    }
