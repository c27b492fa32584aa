from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, cast

from redis.asyncio import Redis

from ...job import Job, JobRecord, JobState
from .. import keys

Place = Literal[
    "ended", "running", "limit", "retry", "equal call", "arrivals", "backlog", "window", "between"
]

_MOST_LOOKED_AT = 10_000


@dataclass(frozen=True)
class WaitReason:
    """Where a job is, and what it waits for."""

    place: Place
    explanation: str
    #: Jobs that go before it there, as far as that is known.
    ahead: int | None = None
    #: About when it goes on, Unix seconds; None where only other jobs decide that.
    until: float | None = None


class WaitReasons:
    """Why jobs wait, for operators. Reads only, over a client with `decode_responses`.

    What is read in several steps may change between them: a job on its way from one place to the next is
    `between`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def of(self, record: JobRecord) -> WaitReason:
        """Raises redis-py's `RedisError`."""
        if record.ended_ms is not None:
            return WaitReason("ended", f"it has ended: {record.state.value}")
        if record.state is not JobState.QUEUED:
            return WaitReason("running", f"it does not wait: worker {record.worker} runs it")
        if record.waits_for:
            return self._limit(record)
        return (
            await self._retry(record)
            or await self._equal_call(record)
            or await self._backlog(record.job)
            or await self._window(record.job)
            or await self._arrivals(record.job)
            or WaitReason(
                "between",
                "it is in no list just now: a worker is taking it up, or its wake-up was lost, and is sent "
                "anew within seconds",
            )
        )

    def _limit(self, record: JobRecord) -> WaitReason:
        until = record.starts_at_ms / 1000 or None
        when = "calls under way have ended" if until is None else "there is room again"
        before = "1 job was" if record.ahead == 1 else f"{record.ahead} jobs were"
        return WaitReason(
            "limit",
            f"it waits for {record.limit_name}, and takes no place in a worker meanwhile; {before} before it "
            f"when it came, and it starts when {when}",
            record.ahead,
            until,
        )

    async def _retry(self, record: JobRecord) -> WaitReason | None:
        until_ms = await self._redis.zscore(keys.PAUSED, record.job.id)
        if until_ms is None:
            return None
        error = record.attempts[-1].error if record.attempts else None
        after = f"; the last one ended with {error}" if error else ""
        return WaitReason("retry", f"it pauses before its next attempt{after}", until=until_ms / 1000)

    async def _equal_call(self, record: JobRecord) -> WaitReason | None:
        if not record.flight:
            return None
        followers = keys.FOLLOWERS_PREFIX + record.flight
        if await self._redis.zscore(followers, record.job.id) is None:
            return None
        return WaitReason("equal call", "an equal call is under way, and its answer will be this job's too")

    async def _backlog(self, job: Job) -> WaitReason | None:
        org, guild = keys.flow_names(job.owner.org, job.owner.guild)
        flows = keys.flows_key(job.queue, job.priority)
        backlog = keys.backlog_key(job.queue, job.priority, guild)
        score = await self._redis.zscore(backlog, job.id)
        if score is None:
            return None
        tag = await self._redis.zscore(flows, org)
        pipe = self._redis.pipeline(transaction=False)
        pipe.zcount(backlog, "-inf", f"({score!r}")
        pipe.zcard(flows)
        pipe.zcount(flows, "-inf", f"({tag!r}" if tag is not None else "-inf")
        pipe.llen(keys.message_list(job.queue, job.priority))
        before, orgs, orgs_before, ready = await pipe.execute()
        return WaitReason(
            "backlog",
            f"it waits for its turn: {before} jobs of its guild are before it, its organisation is number "
            f"{orgs_before + 1} of the {orgs} that take turns, and {ready} wake-ups lie ready for workers",
            before,
        )

    async def _window(self, job: Job) -> WaitReason | None:
        messages = await self._redis.lrange(keys.message_list(job.queue, job.priority), -_MOST_LOOKED_AT, -1)
        for ahead, message in enumerate(reversed(cast("list[str]", messages))):
            if job.id in message and _announces(message) == job.id:
                running = await self._redis.zcard(keys.LEASES)
                return WaitReason(
                    "window",
                    f"its wake-up lies ready, {ahead} before it, and no worker has taken it yet: {running} "
                    "jobs run, and more urgent priorities go first",
                    ahead,
                )
        return None

    async def _arrivals(self, job: Job) -> WaitReason | None:
        arrivals = cast(
            "list[str]", await self._redis.lrange(keys.ARRIVALS_PREFIX + job.queue, 0, _MOST_LOOKED_AT - 1)
        )
        if job.id not in arrivals:
            return None
        return WaitReason(
            "arrivals", "it has arrived, and the next step of a worker sorts it in among those that wait"
        )


def _announces(message: str) -> str | None:
    """The job that a wake-up is for; any user that may write the list may have written this."""
    try:
        return cast("str", json.loads(message)["headers"]["id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
