"""Flights in the ledger: equal calls under way, the job that leads each and the jobs that follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from redis.asyncio import Redis

from ..contract import ContractViolation
from ..job import Job, JobRecord, JobState
from . import keys
from .charge import Charge
from .functions.library import FunctionLibrary
from .wire import charge_args, milliseconds

#: Followers answered in one go.
_MOST_AT_ONCE = 100
#: Of a follower's record everything but its request, of which nobody has need.
_FIELDS = tuple(sorted({"v", *Job.model_fields, *JobRecord.model_fields} - {"request", "job"}))


@dataclass(frozen=True)
class Joined:
    """What became of a job that asked to join: `leads` makes the call, `follows` is parked."""

    verdict: Literal["leads", "follows", "stale"]
    #: How often the flight went from one leader to the next.
    handovers: int = 0


class Flights:
    """Flights over one asyncio Redis client (with `decode_responses`). Raises as `Ledger` does."""

    def __init__(self, redis: Redis, *, result_ttl: timedelta, costs_ttl: timedelta) -> None:
        self._library = FunctionLibrary(redis)
        self._redis = redis
        self._ttl_ms, self._costs_ttl_ms = milliseconds(result_ttl), milliseconds(costs_ttl)

    async def join(self, job_id: str, epoch: int, name: str) -> Joined:
        """Have a claimed job lead the flight `name`, or follow it when another job leads."""
        names = [keys.job_key(job_id), *_keys(name)]
        verdict, *rest = await self._library.call("join", names, [job_id, epoch, name])
        return Joined(verdict, *rest)

    async def share_failure(self, job_id: str, epoch: int) -> bool:
        """Have the followers get the failure that the leader is about to end with."""
        return bool(await self._library.call("share_failure", [keys.job_key(job_id)], [job_id, epoch]))

    async def has_followers(self, name: str) -> bool:
        """Whether any job waits for the flight's answer."""
        return bool(await self._redis.exists(_keys(name)[1]))

    async def followers_of(self, name: str) -> list[JobRecord]:
        """The jobs that wait for the flight's answer, the oldest first, at most a hundred."""
        args = [name, _MOST_AT_ONCE, *_FIELDS]
        found = await self._library.call("followers_of", [_keys(name)[1]], args)
        return list(_records(found))

    async def finish_follower(
        self, job_id: str, name: str, state: JobState, meta: str, *, dead: bool, charge: Charge | None
    ) -> bool:
        """End a job that follows the flight. False when it does not any more."""
        args = [job_id, name, state, meta, self._ttl_ms, int(dead), *charge_args(charge, self._costs_ttl_ms)]
        return bool(await self._library.call("finish_follower", [keys.job_key(job_id)], args) == "done")

    async def repair_flights(self, most: int = _MOST_AT_ONCE) -> list[str]:
        """Put the followers whose leader is gone, or whose answer was not delivered, back on the queue."""
        found: list[str] = await self._library.call("repair_flights", [], [most])
        return found


def _keys(name: str) -> tuple[str, str]:
    return keys.FLIGHT_PREFIX + name, keys.FOLLOWERS_PREFIX + name


def _records(found: Sequence[Sequence[str | None]]) -> Iterator[JobRecord]:
    for job_id, *values in found:
        fields = {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None}
        try:
            record = JobRecord.from_hash(fields)
        except ContractViolation:
            # The reaper has it run, and then it is found to be unreadable.
            continue
        if record.job.id == job_id:
            yield record
