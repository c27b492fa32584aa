from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import cast

from redis.asyncio import Redis

from ..call import CallKind
from . import keys
from .charge import usd
from .wire import OWN_ENDPOINT

_FIRST_DAY = date(1970, 1, 1)
#: What Redis counts up to.
_COUNT = re.compile(r"-?[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True)
class CostRow:
    """What the jobs of one agent with one model came to on one day (UTC)."""

    day: date
    org: str
    guild: str
    agent: str
    model: str
    kind: CallKind
    jobs: int
    #: Jobs among them whose model has no price.
    unpriced: int
    cost_usd: Decimal
    prompt_tokens: int
    completion_tokens: int
    #: Jobs among them that were answered without a call of their own, and what those calls would have cost.
    cached: int = 0
    saved_usd: Decimal = Decimal(0)
    #: The jobs called endpoints that they named themselves: the tokens are those servers' word.
    own_endpoint: bool = False


@dataclass(frozen=True)
class MinuteRow:
    """A model's pace: answers, tokens and dollars a minute."""

    jobs: float
    tokens: float
    cost_usd: float


class Books:
    """The books of what jobs cost, to read; they are written in the step that ends a job.

    Every method raises redis-py's `RedisError`.
    """

    def __init__(self, redis: Redis) -> None:
        """`redis` decodes responses."""
        self._redis = redis
        #: Entries read so far that are none of the books', and were left out.
        self.unreadable = 0

    async def rows(self, first: date, last: date, *, own_endpoints: bool = False) -> list[CostRow]:
        """Every row of the days from `first` to `last`, both included.

        What jobs did at endpoints that they named themselves is booked apart; `own_endpoints` asks for that.
        """
        rows: list[CostRow] = []
        for number in range((last - first).days + 1):
            rows += await self._rows_of(first + timedelta(days=number))
        return [row for row in rows if row.own_endpoint == own_endpoints]

    async def last_minute(self) -> dict[str, MinuteRow]:
        """What went through in the last whole minute and the one under way, per minute, by model."""
        seconds, microseconds = await self._redis.time()
        minute, into_s = divmod(seconds + microseconds / 1e6, 60)
        pipe = self._redis.pipeline(transaction=False)
        for number in (int(minute) - 1, int(minute)):
            pipe.hgetall(keys.minute_key(number))
        sums: Counter[str] = Counter()
        for book in cast("list[dict[str, str]]", await pipe.execute()):
            sums.update(
                {field: count for field, value in book.items() if (count := _count(value)) is not None}
            )
        share = 60 / (60 + into_s)
        models = sorted(field.removeprefix("jobs ") for field in sums if field.startswith("jobs "))
        return {
            model: MinuteRow(
                sums[f"jobs {model}"] * share,
                sums[f"tokens {model}"] * share,
                float(usd(sums[f"pico_usd {model}"])) * share,
            )
            for model in models
        }

    async def today(self) -> date:
        """The day by Redis' clock, which is the books'."""
        seconds, _ = await self._redis.time()
        return datetime.fromtimestamp(seconds, UTC).date()

    async def _rows_of(self, day: date) -> list[CostRow]:
        number = (day - _FIRST_DAY).days
        index = cast("dict[str, str]", await self._redis.hgetall(keys.costs_key(number)))
        # The field without a name counts the rows.
        orgs = sorted(filter(None, index))
        pipe = self._redis.pipeline(transaction=False)
        for org in orgs:
            pipe.hgetall(keys.costs_key(number, org))
        books = cast("list[dict[str, str]]", await pipe.execute()) if orgs else []
        rows = [row for org, book in zip(orgs, books, strict=True) for row in _rows(day, org, book)]
        self.unreadable += sum(row is None for row in rows)
        return [row for row in rows if row is not None]


def _rows(day: date, org: str, book: Mapping[str, str]) -> Iterator[CostRow | None]:
    for field in sorted(book):
        kind, _, name = field.partition(" ")
        if kind == "jobs":
            yield _row(day, org, name, book)


def _row(day: date, org: str, name: str, book: Mapping[str, str]) -> CostRow | None:
    """The row of this name; None when it is not one that the books' own function wrote."""
    names = (
        *("jobs", "unpriced", "pico_usd", "prompt_tokens", "completion_tokens"),
        *("cached", "saved_pico_usd"),
    )
    counts = [_count(book.get(f"{kind} {name}", "0")) for kind in names]
    try:
        guild, agent, model, *kinds = json.loads(name)
        (of_row,) = kinds or [CallKind.CHAT.value]
        kind_name, _, endpoint = of_row.partition(" ")
        kind = CallKind(kind_name)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if (
        None in counts
        or endpoint not in ("", OWN_ENDPOINT)
        or not all(isinstance(one, str) for one in (guild, agent, model))
    ):
        return None
    jobs, unpriced, pico_usd, prompt_tokens, completion_tokens, cached, saved_pico_usd = (
        count or 0 for count in counts
    )
    return CostRow(
        day=day,
        org=org,
        guild=guild,
        agent=agent,
        model=model,
        kind=kind,
        jobs=jobs,
        unpriced=unpriced,
        cost_usd=usd(pico_usd),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached=cached,
        saved_usd=usd(saved_pico_usd),
        own_endpoint=endpoint == OWN_ENDPOINT,
    )


def _count(text: str) -> int | None:
    return int(text) if _COUNT.fullmatch(text) else None
