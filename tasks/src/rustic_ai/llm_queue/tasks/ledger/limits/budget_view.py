from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from redis.asyncio import Redis

from ...policy.budget_rule import NANO
from .. import keys

_FIELDS = ("unit", "spent", "held", "cap", "limit", "ends_ms", "jobs", "doubtful", "overshoot")


@dataclass(frozen=True)
class BudgetRow:
    """One budget in one period, as it stands. Amounts are in dollars or tokens."""

    #: `keys.budget_id`.
    id: str
    name: str
    #: A hash of what it is split by.
    bucket: str
    period: str
    unit: Literal["usd", "tokens"]
    spent: float
    held: float
    #: The policy's amount, or what an operator has set for this period.
    limit: float
    is_set: bool
    #: Unix time in seconds; None for a period without an end.
    ends_at: float | None
    is_over: bool
    calls: int
    waiting: int
    #: What lost calls may have cost, at their holds; it is among `spent`.
    doubtful: float
    #: What calls took beyond their holds.
    overshoot: float

    @property
    def scale(self) -> int:
        """How many of the ledger's units a dollar, or a token, is."""
        return _scale(self.unit)

    @property
    def used(self) -> float:
        """The part that is spent or held, 1 for all of it."""
        return (self.spent + self.held) / self.limit if self.limit else 1.0


class BudgetView:
    """What budgets there are, for operators. Reads only, over a client with `decode_responses`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def rows(self, most: int = 10_000) -> list[BudgetRow]:
        """The budgets of all periods that are kept; one whose record makes no sense is left out.

        Raises redis-py's `RedisError`.
        """
        seconds, _ = await self._redis.time()
        ids = cast("list[str]", await self._redis.zrange(keys.BUDGETS, 0, most - 1))
        async with self._redis.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.hmget(keys.BUDGET_PREFIX + one, *_FIELDS)
                pipe.zcard(keys.WAITING_PREFIX + one)
            replies = await pipe.execute()
        found = (
            _row(one, replies[at * 2], int(replies[at * 2 + 1]), int(seconds)) for at, one in enumerate(ids)
        )
        return [row for row in found if row is not None]


def _scale(unit: str) -> int:
    return NANO if unit == "usd" else 1


def _row(id_: str, values: list[str | None], waiting: int, now_s: int) -> BudgetRow | None:
    name, _, rest = id_.partition(":")
    bucket, _, period = rest.partition(":")
    unit = values[0]
    if unit not in ("usd", "tokens"):
        return None
    try:
        spent, held, cap, limit, ends_ms, jobs, doubtful, overshoot = (int(one or 0) for one in values[1:])
    except ValueError:
        return None
    scale, ends_s = _scale(unit), ends_ms / 1000
    return BudgetRow(
        id=id_,
        name=name,
        bucket=bucket,
        period=period,
        unit="usd" if unit == "usd" else "tokens",
        spent=spent / scale,
        held=held / scale,
        limit=(cap if values[3] is not None else limit) / scale,
        is_set=values[3] is not None,
        ends_at=ends_s or None,
        is_over=0 < ends_s <= now_s,
        calls=jobs,
        waiting=waiting,
        doubtful=doubtful / scale,
        overshoot=overshoot / scale,
    )
