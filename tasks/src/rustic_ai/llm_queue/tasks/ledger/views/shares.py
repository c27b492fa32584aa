from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from ...job import PRIORITIES
from .. import keys

_FIELD = re.compile(r"(tokens|wait:([0-9]{1,3})) (\[.*\])", re.DOTALL | re.ASCII)
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)
#: Jobs whose owner is looked up, so that a look stays cheap: a sample where more wait or run.
_MOST_LOOKED_UP = 2_000
#: Backlogs that are counted.
_MOST_FLOWS = 2_000
#: Minutes that the shares and waits are of.
_MINUTES = 5
_PERCENTILE = 0.95
_BUCKETS_AN_OCTAVE = 4

Flow = tuple[str, str]


@dataclass(frozen=True)
class ShareRow:
    """How an organisation's guild fares."""

    org: str
    guild: str
    #: For a turn, a worker, or a limit; beyond some thousands those in backlogs alone are counted.
    waiting: int
    running: int
    #: Its part of all tokens of the latest minutes.
    share: float
    #: 19 of 20 of its jobs that ended in these minutes had waited no longer for a worker; 0 where none did.
    wait_p95_s: float


class Shares:
    """Who waits, runs and got how much, by guild. Reads only, over a client with `decode_responses`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def rows(self, queue: str) -> list[ShareRow]:
        """Those with most waiting jobs first, then those with the largest share. Raises `RedisError`."""
        tokens, waits = await self._latest()
        running = await self._owners(keys.LEASES)
        waiting = await self._waiting(queue)
        total = sum(tokens.values())
        rows = [
            ShareRow(
                *flow,
                waiting=waiting[flow],
                running=running[flow],
                share=tokens[flow] / total if total else 0.0,
                wait_p95_s=_percentile_s(waits[flow]),
            )
            for flow in tokens.keys() | waits.keys() | running.keys() | waiting.keys()
        ]
        return sorted(rows, key=lambda row: (-row.waiting, -row.share, -row.running, row.org, row.guild))

    async def _latest(self) -> tuple[Counter[Flow], defaultdict[Flow, Counter[int]]]:
        seconds, _ = await self._redis.time()
        pipe = self._redis.pipeline(transaction=False)
        for number in range(_MINUTES):
            pipe.hgetall(keys.flow_minute_key(seconds // 60 - number))
        tokens: Counter[Flow] = Counter()
        waits: defaultdict[Flow, Counter[int]] = defaultdict(Counter)
        for book in cast("list[Mapping[str, str]]", await pipe.execute()):
            for name, value in book.items():
                if (field := _FIELD.fullmatch(name)) is None or not _COUNT.fullmatch(value):
                    continue
                if (flow := _flow(field[3])) is None:
                    continue
                if field[2] is None:
                    tokens[flow] += int(value)
                else:
                    waits[flow][int(field[2])] += int(value)
        return tokens, waits

    async def _waiting(self, queue: str) -> Counter[Flow]:
        """Jobs with a wake-up or at a limit by their owners, those in backlogs by the backlogs' lengths."""
        waiting: Counter[Flow] = Counter()
        for priority in PRIORITIES:
            index = keys.queued_key(queue, priority)
            announced = await self._redis.zrangebyscore(
                index, "-inf", f"({keys.UNANNOUNCED}", start=0, num=_MOST_LOOKED_UP
            )
            waiting.update(await self._owned_by(cast("list[str]", announced)))
            waiting.update(await self._backlogs(queue, priority))
        return waiting

    async def _backlogs(self, queue: str, priority: int) -> Counter[Flow]:
        orgs = cast(
            "list[str]", await self._redis.zrange(keys.flows_key(queue, priority), 0, _MOST_FLOWS - 1)
        )
        pipe = self._redis.pipeline(transaction=False)
        for org in orgs:
            pipe.zrange(keys.flows_key(queue, priority, org), 0, _MOST_FLOWS - 1)
        flows = [flow for found in (await pipe.execute() if orgs else []) for flow in found][:_MOST_FLOWS]
        for flow in flows:
            backlog = keys.backlog_key(queue, priority, flow)
            pipe.zcard(backlog)
            pipe.zrange(backlog, 0, 0)
        counted = await pipe.execute() if flows else []
        lengths, heads = counted[::2], counted[1::2]
        # Flows are hashes: the name is in the record of any of their jobs.
        named = [(length, head[0]) for length, head in zip(lengths, heads, strict=True) if head]
        owners = await self._flows_of([job_id for _, job_id in named])
        waiting: Counter[Flow] = Counter()
        for (length, _), flow in zip(named, owners, strict=True):
            if flow is not None:
                waiting[flow] += length
        return waiting

    async def _owners(self, index: str) -> Counter[Flow]:
        ids = cast("list[str]", await self._redis.zrange(index, 0, _MOST_LOOKED_UP - 1))
        return await self._owned_by(ids)

    async def _owned_by(self, job_ids: Iterable[str]) -> Counter[Flow]:
        return Counter(flow for flow in await self._flows_of(list(job_ids)) if flow is not None)

    async def _flows_of(self, job_ids: list[str]) -> list[Flow | None]:
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(keys.job_key(job_id), "owner")
        # A tenant writes its own jobs' records: an odd one must not hide the others.
        found = await pipe.execute(raise_on_error=False) if job_ids else []
        return [_owner(value) for value in found]


def by_org(rows: Iterable[ShareRow]) -> list[ShareRow]:
    """The rows summed up by organisation: the guild is empty, the wait that of its slowest guild."""
    sums: dict[str, ShareRow] = {}
    for row in rows:
        one = sums.get(row.org, ShareRow(row.org, "", 0, 0, 0.0, 0.0))
        sums[row.org] = ShareRow(
            row.org,
            "",
            one.waiting + row.waiting,
            one.running + row.running,
            one.share + row.share,
            max(one.wait_p95_s, row.wait_p95_s),
        )
    return sorted(sums.values(), key=lambda row: (-row.waiting, -row.share, -row.running, row.org))


def _owner(text: object) -> Flow | None:
    try:
        owner = json.loads(text) if isinstance(text, str) and len(text) < 4_096 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(owner, dict):
        return None
    org, guild = owner.get("org"), owner.get("guild")
    return (org, guild) if isinstance(org, str) and isinstance(guild, str) else None


def _flow(text: str) -> Flow | None:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match names:
        case [str(org), str(guild)]:
            return org, guild
    return None


def _percentile_s(waits: Mapping[int, int]) -> float:
    """The upper end of the histogram's bucket (`wait_bucket` in books.lua) that the percentile falls into."""
    left = _PERCENTILE * sum(waits.values())
    for bucket in sorted(waits):
        left -= waits[bucket]
        if left <= 0:
            return float(2 ** (bucket / _BUCKETS_AN_OCTAVE)) / 1000 if bucket else 0.0
    return 0.0
