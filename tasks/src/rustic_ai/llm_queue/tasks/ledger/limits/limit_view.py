from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from .. import keys

#: No limit is closed so far ahead but by an operator, until resumed (µs).
_FOR_EVER_US = 2**52


@dataclass(frozen=True)
class LimitRow:
    """One bucket of a limit, as it stands. Times are in seconds from now."""

    name: str
    bucket: str
    running: int
    waiting: int
    #: Since the job that has waited longest was submitted.
    oldest_wait_s: float
    #: Until the buckets of requests, input (or all) tokens and output tokens are whole again.
    requests_s: float
    tokens_s: float
    output_s: float
    #: Until a provider's closing ends, and why it came; 0 where it is open.
    closed_s: float
    why: str
    #: Until an operator's pause ends; None where it lasts until it is resumed, 0 where there is none.
    paused_s: float | None

    @property
    def is_closed(self) -> bool:
        """Whether a provider has closed it, or an operator has paused it."""
        return self.paused_s is None or bool(self.paused_s or self.closed_s)


class LimitView:
    """What limits there are, for operators. Reads only, over a client with `decode_responses`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def rows(self, most: int = 1_000) -> list[LimitRow]:
        """The limits in use, those with the most waiting jobs first. Raises redis-py's `RedisError`."""
        seconds, microseconds = await self._redis.time()
        now_us = int(seconds) * 1_000_000 + int(microseconds)
        limits = cast("list[str]", await self._redis.zrange(keys.LIMITS, 0, most - 1))
        pauses = cast("dict[str, str]", await self._redis.hgetall(keys.PAUSES))
        async with self._redis.pipeline(transaction=False) as pipe:
            for limit in limits:
                pipe.hmget(keys.LIMIT_PREFIX + limit, "r", "t", "o", "u", "why")
                pipe.zcard(keys.RUNNING_PREFIX + limit)
                pipe.zcard(keys.WAITING_PREFIX + limit)
                pipe.zrange(keys.WAITING_PREFIX + limit, 0, 0, withscores=True)
            replies = await pipe.execute()
        rows = [_row(limit, replies[at * 4 : at * 4 + 4], pauses, now_us) for at, limit in enumerate(limits)]
        rows += [_paused_alone(name, pauses, now_us) for name in pauses.keys() - {row.name for row in rows}]
        return sorted(rows, key=lambda row: (-row.waiting, row.name, row.bucket))


def _row(limit: str, replies: list[object], pauses: dict[str, str], now_us: int) -> LimitRow:
    (requests, tokens, output, closed, why), running, waiting, first = cast(
        "tuple[list[str | None], int, int, list[tuple[str, float]]]", replies
    )
    name, _, bucket = limit.partition(":")
    # The order of a waiting job is its priority's and its time of submit.
    submitted_ms = first[0][1] % 2**46 if first else now_us / 1000
    return LimitRow(
        name=name,
        bucket=bucket,
        running=running,
        waiting=waiting,
        oldest_wait_s=max(now_us / 1000 - submitted_ms, 0) / 1000,
        requests_s=_ahead_s(requests, now_us),
        tokens_s=_ahead_s(tokens, now_us),
        output_s=_ahead_s(output, now_us),
        closed_s=_ahead_s(closed, now_us),
        why=why or "",
        paused_s=_paused_s(name, pauses, now_us),
    )


def _paused_alone(name: str, pauses: dict[str, str], now_us: int) -> LimitRow:
    return LimitRow(name, "", 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, "", _paused_s(name, pauses, now_us))


def _paused_s(name: str, pauses: dict[str, str], now_us: int) -> float | None:
    until = pauses.get(name)
    return None if until is not None and float(until) >= _FOR_EVER_US else _ahead_s(until, now_us)


def _ahead_s(until_us: str | None, now_us: int) -> float:
    return max(float(until_us or 0) - now_us, 0) / 1e6
