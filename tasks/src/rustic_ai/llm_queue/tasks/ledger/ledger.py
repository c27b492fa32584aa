"""The job records in Redis, and the only functions that change them.

| state     | left by                                   | to                                  |
|-----------|-------------------------------------------|-------------------------------------|
| (none)    | submit                                    | queued                              |
| queued    | claim                                     | running, epoch + 1                  |
| queued    | cancel / conclude (deadline, no tries)    | cancelled / expired, failed         |
| running   | renew                                     | running, the lease runs anew        |
| running   | finish by the holder of the epoch         | answered, failed, cancelled, expired |
| running   | hand_back by the holder                   | queued                              |
| running   | reap, when the lease has run out          | queued, or conclude to a final one  |
| running   | enter, when the guild has its share       | queued (parked)                     |
| running   | cancel                                    | running, until its holder finishes  |
| final     | replay, when it is dead                   | queued                              |

Every function may be sent twice: one whose reply was lost answers the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources
from itertools import batched
from typing import Any, Literal, cast

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ..attempt import AttemptRecord
from ..contract import ContractViolation
from ..frames import FrameId
from ..job import Job, JobRecord, JobState, Priority
from ..owner import Owner
from . import keys
from .charge import Charge
from .functions_missing import FunctionsMissing as FunctionsMissing
from .wakeup_message import wakeup_message

SubmitVerdict = Literal["created", "exists", "conflict"]
ClaimVerdict = Literal["granted", "missing", "final", "withdrawn", "leased", "expired", "exhausted"]
FinishVerdict = Literal["done", "already", "stale"]
CancelVerdict = Literal["cancelled", "cancelling", "running", "ended", "missing"]
HandBackVerdict = Literal["queued", "cancelled", "lost", "stale"]
EnterVerdict = Literal["entered", "parked", "stale"]
StopReason = Literal["lost", "cancelled"]
ReapVerdict = Literal["requeued", "cancelled", "lost", "expired", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. `record` is there for granted, expired and exhausted."""

    verdict: ClaimVerdict
    now_ms: int
    record: JobRecord | None = None
    #: Why a granted record cannot be run: it does not validate. It is claimed all the same.
    violation: ContractViolation | None = None
    #: Known even where the record does not validate.
    epoch: int = 0


@dataclass(frozen=True)
class Renewal:
    """The answer to a renewal: when it was, on Redis' clock, and the jobs to stop, and why."""

    now_ms: int
    stop: dict[str, StopReason]


@cache
def _library() -> tuple[str, str]:
    source = resources.files(__package__).joinpath("ledger.lua").read_text()
    name = f"llmq_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    return name, f"#!lua name={name}\n{source.replace('LIB', name)}"


class Ledger:
    """The job records over one asyncio Redis client (with `decode_responses`).

    Every method raises redis-py's `ConnectionError` or `TimeoutError` once the client's retries
    are used up.
    """

    def __init__(
        self, redis: Redis, *, result_ttl: timedelta, costs_ttl: timedelta = timedelta(days=400)
    ) -> None:
        self._redis = redis
        self._ttl_ms = _ms(result_ttl)
        self._costs_ttl_ms = _ms(costs_ttl)

    async def submit(
        self,
        job: Job,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: timedelta = timedelta(hours=24),
        mailbox: str | None = None,
    ) -> tuple[SubmitVerdict, str]:
        """Write a new job and wake a worker up for it.

        Args:
            mailbox: the result is published on the `result_key` of this, too, as `job id:result`.

        Returns the verdict and the id of the job that now stands for it.
        """
        names = [keys.job_key(job.id), *([idempotency_key] if idempotency_key else [])]
        record = [part for pair in job.to_hash().items() for part in pair]
        record += ["mailbox", mailbox] if mailbox else []
        head = [job.id, job.fingerprints, job.timeout_ms, self._ttl_ms, _ms(idempotency_ttl)]
        head += [keys.message_list(job.queue, job.priority), wakeup_message(job)]
        verdict, job_id = await self._call("submit", names, [*head, *record])
        return verdict, job_id

    async def announce(self, job: Job) -> None:
        """Wake a worker up for a job that is back on the queue; doing it twice does no harm."""
        await self._redis.lpush(keys.message_list(job.queue, job.priority), wakeup_message(job))

    async def claim(
        self, job_id: str, *, worker: str, token: str, lease: timedelta, most_losses: int
    ) -> Claim:
        """Take the job for `lease`, unless it is another's, has ended or has no tries left."""
        verdict, now_ms, *rest = await self._call(
            "claim", [keys.job_key(job_id)], [job_id, worker, token, _ms(lease), most_losses]
        )
        if not rest:
            return Claim(verdict, now_ms)
        fields = _pairs(rest[0])
        epoch = _whole(fields.get("epoch"))
        try:
            return Claim(verdict, now_ms, JobRecord.from_hash(fields), epoch=epoch)
        except ContractViolation as violation:
            return Claim(verdict, now_ms, violation=violation, epoch=epoch)

    async def begin_attempt(
        self, job_id: str, epoch: int, *, begun: int, ended: Iterable[AttemptRecord]
    ) -> bool:
        """Put the next provider call on record before it is made. False when the lease is lost."""
        args = [job_id, epoch, begun, _attempts_json(ended)]
        return bool(await self._call("begin_attempt", [keys.job_key(job_id)], args))

    async def renew(self, held: Mapping[str, int], *, lease: timedelta) -> Renewal:
        """Renew the leases of `held` (id to epoch)."""
        args = [part for pair in held.items() for part in pair]
        now_ms, *stop = await self._call("renew", [], [_ms(lease), *args])
        return Renewal(now_ms, dict(cast("Iterable[tuple[str, StopReason]]", batched(stop, 2, strict=True))))

    async def emit(self, job_id: str, at: FrameId, frame: str, *, void_before: bool = False) -> bool:
        """Write the next frame of a stream and publish it. False when the lease is lost.

        `void_before` drops the frames before this one. Raises redis-py's `ResponseError` when Redis
        is out of memory.
        """
        names = [keys.job_key(job_id), keys.stream_log_key(job_id)]
        args = [job_id, at.epoch, at.seq, frame, keys.stream_channel(job_id), self._ttl_ms, int(void_before)]
        return bool(await self._call("emit", names, args))

    async def frames(self, job_id: str, *, after: FrameId, most: int) -> list[tuple[FrameId, str]]:
        """The frames of the log that come after `after`, at most `most` of them."""
        reply = await self._redis.xrange(keys.stream_log_key(job_id), min=f"({after}", count=most)
        entries = cast("list[tuple[str, dict[str, str]]]", reply)
        return [(FrameId.parse(at), fields.get("frame", "")) for at, fields in entries]

    async def finish(
        self, job_id: str, epoch: int, state: JobState, meta: str,
        *, attempts: Iterable[AttemptRecord], dead: bool = False, charge: Charge | None = None,
    ) -> FinishVerdict:  # fmt: skip
        """End a job this epoch holds, publish `meta` as its Celery result and book `charge`, in one step."""
        args = [job_id, epoch, state, meta, self._ttl_ms, _attempts_json(attempts), int(dead)]
        args += _charge_args(charge, self._costs_ttl_ms) if charge else []
        return cast(FinishVerdict, await self._call("finish", [keys.job_key(job_id)], args))

    async def conclude(
        self, job_id: str, epoch: int, state: JobState, meta: str, *, dead: bool = False
    ) -> bool:
        """End a job that nobody holds, if it still is as it was seen at `epoch`."""
        args = [job_id, epoch, state, meta, self._ttl_ms, int(dead)]
        return bool(await self._call("conclude", [keys.job_key(job_id)], args) == "done")

    async def cancel(self, job_id: str, *, by: str, meta: str, waiting_only: bool = False) -> CancelVerdict:
        """End a waiting job with `meta`; tell the worker of a running one, unless `waiting_only`."""
        args = [job_id, by, meta, self._ttl_ms, int(waiting_only)]
        return cast(CancelVerdict, await self._call("cancel", [keys.job_key(job_id)], args))

    async def hand_back(
        self,
        job_id: str,
        epoch: int,
        *,
        begun: int,
        ended: Iterable[AttemptRecord],
        call_under_way: bool,
    ) -> HandBackVerdict:
        """Put a held job back on the queue, for another worker to take at once.

        Args:
            begun: provider calls that were in fact begun.
            call_under_way: one of them was cut short, so running the job again may bill twice.
        """
        args = [job_id, epoch, _attempts_json(ended), begun, int(call_under_way)]
        return cast(HandBackVerdict, await self._call("hand_back", [keys.job_key(job_id)], args))

    async def enter(
        self, job_id: str, epoch: int, owner: Owner, *, most: int, patience: timedelta
    ) -> EnterVerdict:
        """Count a held job among its guild's running ones, or hand it back when there are `most`.

        Args:
            patience: how long a parked job waits to be announced before it counts as forgotten.
        """
        names = [*keys.guild_keys(owner.org, owner.guild), keys.job_key(job_id)]
        return cast(EnterVerdict, await self._call("enter", names, [job_id, epoch, most, _ms(patience)]))

    async def leave(self, job_id: str, owner: Owner, *, most: int) -> list[str]:
        """Take a job from its guild's running ones. Returns those that were parked for its place."""
        names = keys.guild_keys(owner.org, owner.guild)
        return cast("list[str]", await self._call("leave", names, [job_id, most]))

    async def reap(
        self, *, renewed_ms: int, within: timedelta, most: int = 100
    ) -> list[tuple[ReapVerdict, str]]:
        """Requeue the jobs whose lease ran out; name those to be concluded instead, and those withdrawn.

        Args:
            renewed_ms: when the caller last renewed its own leases, on Redis' clock.
            within: no lease is reaped when that was longer ago.
        """
        reply = await self._call("reap", [], [renewed_ms, _ms(within), most])
        return cast("list[tuple[ReapVerdict, str]]", list(batched(reply, 2, strict=True)))

    async def unannounced(
        self, queue: str, priority: Priority, *, patience: timedelta, most: int = 100
    ) -> list[str]:
        """The waiting jobs whose wake-up was lost, marked as announced now."""
        names = [keys.queued_key(queue, priority), keys.message_list(queue, priority)]
        reply = await self._call("unannounced", names, [_ms(patience), most])
        return cast("list[str]", reply)

    async def replay(self, job_id: str) -> bool:
        """Queue an ended job again. False when it was answered, runs, or is gone."""
        return bool(await self._call("replay", [keys.job_key(job_id)], [job_id, self._ttl_ms]))

    async def drop(self, job_id: str) -> bool:
        """Forget a dead job and what is left of it. False when there was nothing, or it has not ended."""
        return bool(await self._call("drop", [keys.job_key(job_id)], [job_id]))

    async def record(self, job_id: str) -> JobRecord | None:
        """The job as it stands, or None. Raises `ContractViolation` when it does not validate."""
        fields = cast("dict[str, str]", await self._redis.hgetall(keys.job_key(job_id)))
        return JobRecord.from_hash(fields) if fields else None

    async def now_ms(self) -> int:
        """Redis' clock, on which the records' times are."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def epoch(self, job_id: str) -> int:
        """The number of the job's latest claim, readable even where the record is not."""
        return _whole(await self._redis.hget(keys.job_key(job_id), "epoch"))

    async def _call(self, function: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        library, _ = _library()
        name = f"{library}_{function}"
        try:
            return await self._redis.fcall(name, len(names), *names, *args)
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise
        await self.load()
        return await self._redis.fcall(name, len(names), *names, *args)

    async def load(self) -> None:
        """Load the functions into Redis; done twice it does nothing.

        Raises `FunctionsMissing` when they are not there and this user may not load them.
        """
        try:
            await self._redis.function_load(_library()[1])
        except NoPermissionError:
            raise FunctionsMissing from None
        except ResponseError as error:
            if "already exists" not in str(error):
                raise


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(cast("Iterable[tuple[str, str]]", batched(flat, 2, strict=True)))


def _whole(text: object) -> int:
    """A number of a record that may have been tampered with, read as the functions read it."""
    known = isinstance(text, str) and len(text) < 16 and text.isascii() and text.isdecimal()
    return int(str(text)) if known else 0


def _attempts_json(attempts: Iterable[AttemptRecord]) -> str:
    return "[" + ",".join(attempt.model_dump_json(exclude_none=True) for attempt in attempts) + "]"


def _charge_args(charge: Charge, ttl_ms: int) -> list[str | int]:
    owner, pico_usd = charge.owner, "" if charge.pico_usd is None else charge.pico_usd
    tokens = (charge.prompt_tokens, charge.completion_tokens)
    return [owner.org, owner.guild, owner.agent, charge.model, pico_usd, *tokens, ttl_ms]


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
