from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from ...contract import ContractViolation
from ...job import JobRecord
from .. import keys


@dataclass(frozen=True)
class ListedJob:
    """A job of an index. Its record is None when it is gone or does not validate."""

    job_id: str
    record: JobRecord | None
    violation: str | None = None


class JobIndex:
    """What jobs there are, for operators. Reads only, over a client with `decode_responses`.

    Every method raises redis-py's `RedisError`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def unfinished(self, most: int) -> list[ListedJob]:
        """Jobs that wait or run, those whose deadline comes first before the others."""
        return await self._jobs(cast("list[str]", await self._redis.zrange(keys.DEADLINES, 0, most - 1)))

    async def dead(self, most: int) -> list[ListedJob]:
        """Jobs that failed and were not replayed or dropped, the latest first."""
        # redis-py would send its `desc` as ZREVRANGE, a command of its own to the server's ACL.
        latest = cast("list[str]", await self._redis.zrange(keys.DEAD, -most, -1))
        return await self._jobs(latest[::-1])

    async def is_dead(self, job_id: str) -> bool:
        return await self._redis.zscore(keys.DEAD, job_id) is not None

    async def job(self, job_id: str) -> ListedJob:
        """One job."""
        (listed,) = await self._jobs([job_id])
        return listed

    async def _jobs(self, job_ids: Sequence[str]) -> list[ListedJob]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.job_key(job_id))
            # A key of another kind is an unreadable record, not the end of the list.
            records = await pipe.execute(raise_on_error=False)
        return [_listed(job_id, fields) for job_id, fields in zip(job_ids, records, strict=True)]


def _listed(job_id: str, fields: dict[str, str] | Exception) -> ListedJob:
    if isinstance(fields, Exception):
        return ListedJob(job_id, None, "its key holds something else")
    if not fields:
        return ListedJob(job_id, None, "its record is gone")
    try:
        return ListedJob(job_id, JobRecord.from_hash(fields))
    except ContractViolation as violation:
        return ListedJob(job_id, None, str(violation))
