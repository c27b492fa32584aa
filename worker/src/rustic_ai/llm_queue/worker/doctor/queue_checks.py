from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.books import Books
from rustic_ai.llm_queue.tasks.ledger.views.depths import oldest_waits_s, queue_depths
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from .finding import Finding, doubtful, good

_MOST_WAIT_S = 60.0
_LATEST_DEAD = 20
_SEEN_FOR = timedelta(days=7)


async def check_queue(redis: Redis, settings: QueueSettings) -> list[Finding]:
    """What waits, what failed for good, and whether it could be read by others."""
    return [
        await _waiting(redis, settings.queue),
        await _dead(redis),
        await _quarantine(redis),
        _sealing(settings),
    ]


async def seen_models(redis: Redis) -> list[str]:
    """The models of the books of the last week, and of the latest dead jobs."""
    ledger = Books(redis)
    today = await ledger.today()
    models = {row.model for row in await ledger.rows(today - _SEEN_FOR, today)}
    for job_id in await redis.zrange(keys.DEAD, -_LATEST_DEAD, -1):
        with suppress(ResponseError):  # a key of another kind
            if model := await redis.hget(keys.job_key(str(job_id)), "model"):
                models.add(str(model))
    return sorted(models - {"other"})


async def _waiting(redis: Redis, queue: str) -> Finding:
    depth = sum(one.waiting for one in await queue_depths(redis, [queue]))
    if not depth:
        return good("queue", f"{queue!r} is empty")
    wait_s = max((await oldest_waits_s(redis, queue)).values(), default=0.0)
    says = f"{depth} jobs wait in {queue!r}, the oldest for {wait_s:.0f} s"
    if wait_s > _MOST_WAIT_S:
        return doubtful("queue", says, "start more workers, or raise LLM_QUEUE_CONCURRENCY")
    return good("queue", says)


async def _dead(redis: Redis) -> Finding:
    if not (count := await redis.zcard(keys.DEAD)):
        return good("dead jobs", "none")
    return doubtful(
        "dead jobs",
        f"{count} failed for good",
        "see why with `llm-queue dead list`; replay them when that is mended",
    )


async def _quarantine(redis: Redis) -> Finding:
    if not (count := await redis.llen(keys.QUARANTINE)):
        return good("quarantine", "empty")
    mend = "somebody else writes to the queue's lists: look with `llm-queue quarantine list`"
    return doubtful("quarantine", f"{count} messages that no worker would take", mend)


def _sealing(settings: QueueSettings) -> Finding:
    if settings.key_ring():
        return good("sealing", f"on, with key {settings.key_ring().ids[0]!r}")
    return doubtful(
        "sealing",
        "off: anyone who can read Redis reads prompts and answers, anyone who can write to it can forge "
        "answers, and agents may send no API key",
        "make a key with `llm-queue make-key`; set LLM_QUEUE_SEALING_KEYS for agents and workers",
    )
