from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from celery import Celery
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import NORMAL
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.books import Books, MinuteRow
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView
from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitRow, LimitView
from rustic_ai.llm_queue.tasks.ledger.views.depths import oldest_waits_s, queue_depths
from rustic_ai.llm_queue.tasks.ledger.views.shares import ShareRow, Shares, by_org

#: Running jobs whose model is looked up, so that a look stays cheap.
_MOST_LOOKED_UP = 2_000
_NO_PACE = MinuteRow(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class QueueRow:
    queue: str
    priority: int
    waiting: int
    #: How long the first of them has waited, 0 when none does.
    oldest_wait_s: float


@dataclass(frozen=True)
class WorkerRow:
    """A worker's own figures."""

    name: str
    in_flight: int
    limit: int
    #: Jobs since it started.
    total: int
    loop_lag_s: float
    rss_bytes: int


@dataclass(frozen=True)
class ModelRow:
    """A model's running jobs, and what goes through a minute."""

    model: str
    running: int
    jobs_a_minute: float
    tokens_a_minute: float
    usd_a_minute: float


@dataclass(frozen=True)
class Overview:
    """The queue at a glance."""

    queues: tuple[QueueRow, ...]
    models: tuple[ModelRow, ...]
    running: int
    dead: int
    quarantined: int
    #: Of the periods under way, the fullest first.
    budgets: tuple[BudgetRow, ...] = ()
    #: That jobs wait for or that are closed, those with the most waiting jobs first.
    limits: tuple[LimitRow, ...] = ()
    #: By organisation, whose guild is then empty, and by guild; those with the most waiting jobs first.
    orgs: tuple[ShareRow, ...] = ()
    guilds: tuple[ShareRow, ...] = ()


async def look_at_queue(redis: Redis, queue: str) -> Overview:
    """Raises redis-py's `RedisError`."""
    pipe = redis.pipeline(transaction=False)
    pipe.zcard(keys.LEASES)
    pipe.zcard(keys.DEAD)
    pipe.llen(keys.QUARANTINE)
    pipe.zrange(keys.LEASES, 0, _MOST_LOOKED_UP - 1)
    running, dead, quarantined, held = await pipe.execute()
    oldest_s = await oldest_waits_s(redis, queue)
    rows = [
        QueueRow(queue, one.priority, one.waiting, oldest_s.get(one.priority, 0.0))
        for one in await queue_depths(redis, [queue])
    ]
    # An empty queue has a row, too.
    queues = tuple(row for row in rows if row.waiting) or tuple(row for row in rows if row.priority == NORMAL)
    limits = [row for row in await LimitView(redis).rows() if row.waiting or row.is_closed]
    budgets = [row for row in await BudgetView(redis).rows() if not row.is_over]
    guilds = await Shares(redis).rows(queue)
    return Overview(
        queues,
        await _models(redis, held),
        running,
        dead,
        quarantined,
        tuple(sorted(budgets, key=lambda row: (-row.used, row.name, row.bucket))),
        tuple(limits),
        tuple(by_org(guilds)),
        tuple(guilds),
    )


def look_at_workers(app: Celery, timeout_s: float) -> tuple[WorkerRow, ...]:
    """The live workers, after `timeout_s` of waiting for their answers."""
    stats = app.control.inspect(timeout=timeout_s).stats() or {}
    return tuple(_worker(name, _pool(figures)) for name, figures in sorted(stats.items()))


def _worker(name: str, pool: dict[str, Any]) -> WorkerRow:
    return WorkerRow(
        name=name,
        in_flight=int(_figure(pool, "in-flight")),
        limit=int(_figure(pool, "max-concurrency")),
        total=int(_figure(pool, "total")),
        loop_lag_s=_figure(pool, "loop-lag-s"),
        rss_bytes=int(_figure(pool, "rss-bytes")),
    )


def _pool(figures: Any) -> dict[str, Any]:
    pool = figures.get("pool") if isinstance(figures, dict) else None
    return pool if isinstance(pool, dict) else {}


def _figure(pool: dict[str, Any], name: str) -> float:
    """A number of a worker's pool; 0 for a pool of another kind, which has none."""
    value = pool.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else 0.0


async def _models(redis: Redis, held: list[str]) -> tuple[ModelRow, ...]:
    pipe = redis.pipeline(transaction=False)
    for job_id in held:
        pipe.hget(keys.job_key(job_id), "model")
    models = await pipe.execute(raise_on_error=False)
    running = Counter(model for model in models if isinstance(model, str) and model)
    pace = await Books(redis).last_minute()
    rows = [
        ModelRow(model, running[model], one.jobs, one.tokens, one.cost_usd)
        for model in running.keys() | pace.keys()
        for one in (pace.get(model, _NO_PACE),)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.usd_a_minute, -row.running, row.model)))
