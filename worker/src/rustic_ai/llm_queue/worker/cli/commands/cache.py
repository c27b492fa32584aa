from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.cluster_mode import refuse_cluster_mode
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.books import Books
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...reuse.cache_admin import CacheStats, cache_stats, clear_cache
from ...settings import WorkerSettings
from ..listing import counted
from ..output import cell, json_option, out, print_json
from ..redis_session import on_redis


@click.group()
def cache() -> None:
    """Answers that are kept for equal calls."""


@cache.command()
@json_option
def stats(as_json: bool) -> None:
    """What is kept, and what it has saved today (UTC)."""
    found, cached, saved_usd = on_redis(_read, QueueSettings())
    if as_json:
        print_json({**vars(found), "answered_today": cached, "saved_usd_today": f"{saved_usd:f}"})
        return
    cut = "at least " if found.cut_short else ""
    out.print(f"kept: {cut}{counted(found.answers, 'answer')}, in {counted(found.scopes, 'scope')}")
    out.print(f"saved today (UTC): {counted(cached, 'call')}, {saved_usd.normalize():f} USD")


@cache.command()
@click.option("--org", help="Only this organisation's.")
@click.option("--guild", help="Only this guild's, of the organisation in --org.")
@json_option
def clear(org: str | None, guild: str | None, as_json: bool) -> None:
    """Reuse no answer that was kept before now. It is one step, however many there are.

    They stay in Redis, and in `stats`, until their time is over.
    """
    if guild is not None and org is None:
        raise click.UsageError("--guild needs --org: guilds of two organisations may have the same name")
    on_redis(
        lambda redis, _: _on_cache(redis, lambda store: clear_cache(store, org=org, guild=guild)),
        QueueSettings(),
    )
    if as_json:
        print_json({"cleared": {"org": org, "guild": guild}})
        return
    whose = f"guild {guild} of {org}" if guild else f"organisation {org}" if org else "every organisation"
    out.print(f"No answer that was kept before now is reused for {cell(whose)}")


async def _read(redis: Redis, _: QueueSettings) -> tuple[CacheStats, int, Decimal]:
    books = Books(redis)
    today = await books.today()
    rows = await books.rows(today, today)
    saved_usd = sum((row.saved_usd for row in rows), start=Decimal(0))
    return await _on_cache(redis, cache_stats), sum(row.cached for row in rows), saved_usd


async def _on_cache[T](redis: Redis, work: Callable[[Redis], Awaitable[T]]) -> T:
    """Do `work` where the answers are: on a Redis of their own, or the queue's."""
    settings = WorkerSettings()
    url = settings.cache_url
    if url is None:
        return await work(redis)
    async with connect(url, outage_s=0, key_tag=settings.key_tag) as store:
        await refuse_cluster_mode(store, url, "LLM_QUEUE_CACHE_URL")
        return await work(store)
