from __future__ import annotations

import asyncio
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field

import click
from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rustic_ai.llm_queue.tasks.job import PRIORITY_NAMES
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow
from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitRow
from rustic_ai.llm_queue.tasks.ledger.views.shares import ShareRow
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...broker.app import make_celery_app
from ...doctor.overview import ModelRow, Overview, QueueRow, WorkerRow, look_at_queue, look_at_workers
from ..output import cell, json_option, notes, out, print_json
from ..redis_session import on_redis
from ..redis_trouble import redis_trouble
from .limits import closed_for

_MOST_MODELS = 15
_MOST_LIMITS, _MOST_BUDGETS, _MOST_SHARES = 10, 10, 10
_PRIORITY_NAMES: dict[int, str] = {number: name for name, number in PRIORITY_NAMES.items()}
#: How long workers have to answer.
_ANSWER_S = 1.0


@click.command()
@click.option("--once", is_flag=True, help="Show it once, and end.")
@click.option("--interval", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@json_option
def top(once: bool, interval: float, as_json: bool) -> None:
    """Watch the queue: the waiting jobs, the workers, and what each model does and costs a minute.

    Ctrl-C ends it. With --json it prints one look and ends.
    """
    settings = QueueSettings()
    app = make_celery_app(settings)
    with closing(app):
        if not as_json and not once:
            with suppress(KeyboardInterrupt):
                on_redis(lambda redis, _: _watch(redis, settings, app, interval), settings)
            return
        with notes.status("asking the workers"):
            look = on_redis(lambda redis, _: _look(redis, settings, app), settings)
    if as_json:
        print_json({**asdict(look.overview), "workers": [asdict(row) for row in look.workers]})
    else:
        out.print(_screen(look))


@dataclass(frozen=True)
class _Look:
    overview: Overview
    workers: tuple[WorkerRow, ...]
    at: str = field(default_factory=lambda: time.strftime("%H:%M:%S"))


async def _look(redis: Redis, settings: QueueSettings, app: Celery) -> _Look:
    # The queue first: with Redis away, Celery would be a while in finding it out.
    overview = await look_at_queue(redis, settings.queue)
    try:
        workers = await asyncio.to_thread(look_at_workers, app, _ANSWER_S)
    except OperationalError as error:
        # kombu's, around redis-py's own.
        raise error.__cause__ if isinstance(error.__cause__, RedisError) else RedisError(str(error)) from None
    return _Look(overview, workers)


async def _watch(redis: Redis, settings: QueueSettings, app: Celery, interval_s: float) -> None:
    with Live(Text("looking"), console=out, screen=True, auto_refresh=False) as live:
        while True:
            started = time.monotonic()
            try:
                view: RenderableType = _screen(await _look(redis, settings, app))
            except RedisError as error:
                view = Text(redis_trouble(error, settings.redis_url), style="red")
            live.update(view, refresh=True)
            await asyncio.sleep(max(interval_s - (time.monotonic() - started), 0.1))


def _screen(look: _Look) -> Group:
    view = look.overview
    usd = sum(row.usd_a_minute for row in view.models)
    head = _head(
        ("llm-queue", "bold"),
        look.at,
        f"running {view.running:,}",
        f"waiting {sum(row.waiting for row in view.queues):,}",
        (f"dead {view.dead:,}", "red" if view.dead else ""),
        (f"quarantined {view.quarantined:,}", "red" if view.quarantined else ""),
        f"{usd:.4f} USD/min",
    )
    parts: list[RenderableType] = [_queues(view.queues), _workers(look.workers), _models(view.models)]
    if view.orgs:
        parts.append(_shares("organisation", view.orgs))
    if len(view.guilds) > len(view.orgs):
        parts.append(_shares("guild", view.guilds))
    if view.limits:
        parts.append(_limits(view.limits))
    if view.budgets:
        parts.append(_budgets(view.budgets))
    return Group(head, *(piece for part in parts for piece in ("", part)))


def _head(*figures: str | tuple[str, str]) -> Text:
    """The figures in one line, or in more where the terminal is too narrow, none of them folded."""
    lines = [Text()]
    for one in figures:
        piece = Text.assemble(one)
        if lines[-1].cell_len + 2 + piece.cell_len > out.width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append_text(piece)
    return Text("\n").join(lines)


def _queues(rows: tuple[QueueRow, ...]) -> Table:
    table = _table("queue", "priority", "waiting", "oldest wait")
    for row in rows:
        wait = f"{row.oldest_wait_s:.0f} s" if row.waiting else ""
        table.add_row(cell(row.queue), _PRIORITY_NAMES[row.priority], f"{row.waiting:,}", wait)
    return table


def _workers(rows: tuple[WorkerRow, ...]) -> Table:
    table = _table("worker", "in flight", "limit", "jobs so far", "loop lag", "memory")
    for row in rows:
        table.add_row(
            cell(row.name),
            f"{row.in_flight:,}",
            f"{row.limit:,}",
            f"{row.total:,}",
            f"{row.loop_lag_s * 1000:.0f} ms",
            f"{row.rss_bytes / 1e6:.0f} MB",
        )
    if not rows:
        table.add_row("[red]none answers[/]", *[""] * 5)
    return table


def _models(rows: tuple[ModelRow, ...]) -> Table:
    table = _table("model", "running", "answers/min", "tokens/min", "USD/min")
    for row in rows[:_MOST_MODELS]:
        table.add_row(
            cell(row.model),
            f"{row.running:,}",
            f"{row.jobs_a_minute:.1f}",
            f"{row.tokens_a_minute:,.0f}",
            f"{row.usd_a_minute:.4f}",
        )
    if len(rows) > _MOST_MODELS:
        table.add_row(f"and {len(rows) - _MOST_MODELS} more", *[""] * 4)
    return table


def _shares(of: str, rows: tuple[ShareRow, ...]) -> Table:
    table = _table(of, "waiting", "running", "share of tokens", "wait p95")
    for row in rows[:_MOST_SHARES]:
        name = f"{row.org}/{row.guild}" if row.guild else row.org
        figures = (f"{row.waiting:,}", f"{row.running:,}", f"{row.share:.0%}", f"{row.wait_p95_s:.2f} s")
        table.add_row(cell(name), *figures)
    if len(rows) > _MOST_SHARES:
        table.add_row(f"and {len(rows) - _MOST_SHARES} more", *[""] * 4)
    return table


def _limits(rows: tuple[LimitRow, ...]) -> Table:
    table = _table("limit", "running", "waiting", "oldest wait", "closed", "why")
    for row in rows[:_MOST_LIMITS]:
        wait = f"{row.oldest_wait_s:.0f} s" if row.waiting else ""
        figures = (f"{row.running:,}", f"{row.waiting:,}", wait)
        table.add_row(cell(row.name), *figures, closed_for(row), cell(row.why))
    if len(rows) > _MOST_LIMITS:
        table.add_row(f"and {len(rows) - _MOST_LIMITS} more", *[""] * 5)
    return table


def _budgets(rows: tuple[BudgetRow, ...]) -> Table:
    table = _table("budget", "period", "used", "spent", "held", "in all", "waiting")
    for row in rows[:_MOST_BUDGETS]:
        amounts = (_amount(row, one) for one in (row.spent, row.held, row.limit))
        table.add_row(cell(row.name), cell(row.period), f"{row.used:.0%}", *amounts, f"{row.waiting:,}")
    if len(rows) > _MOST_BUDGETS:
        table.add_row(f"and {len(rows) - _MOST_BUDGETS} more", *[""] * 6)
    return table


def _amount(row: BudgetRow, amount: float) -> str:
    return f"${amount:,.2f}" if row.unit == "usd" else f"{amount:,.0f} tok"


def _table(first: str, *figures: str) -> Table:
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold cyan")
    table.add_column(first, ratio=1, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
