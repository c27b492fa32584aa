"""The job records in Redis, and the only functions that change them.

| state     | left by                                   | to                                  |
|-----------|-------------------------------------------|-------------------------------------|
| (none)    | submit                                    | queued                              |
| queued    | claim                                     | running, epoch + 1                  |
| queued    | take_back, once it was submitted again    | running, by the claim of before     |
| queued    | cancel / conclude (deadline, no tries)    | cancelled / expired, failed         |
| (none)    | take_back by a worker that still runs it  | running, by the claim of before     |
| running   | renew                                     | running, the lease runs anew        |
| running   | finish by the holder of the epoch         | answered, failed, cancelled, expired |
| running   | hand_back by the holder                   | queued                              |
| running   | reap, when the lease has run out          | queued, or conclude to a final one  |
| running   | admit, when a limit has no room; pause    | queued, but waiting in no queue     |
| running   | cancel                                    | running, until its holder finishes  |
| final     | replay, when it is dead                   | queued                              |

Every function may be sent twice: one whose reply was lost answers the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import batched
from typing import cast

from redis.asyncio import Redis

from ..attempt import AttemptRecord
from ..frames import FrameId
from ..job import Job, JobRecord, JobState, Priority
from . import keys
from .call_use import CallUse
from .charge import Charge
from .clock import now_ms
from .flights import Flights
from .functions.functions_missing import FunctionsMissing as FunctionsMissing
from .functions.library import FunctionLibrary
from .limits.limit_ledger import LimitLedger
from .turn_ledger import TurnLedger
from .verdicts import CancelVerdict as CancelVerdict
from .verdicts import Claim as Claim
from .verdicts import FinishVerdict as FinishVerdict
from .verdicts import HandBackVerdict, Renewal, SubmitVerdict
from .verdicts import ReapVerdict as ReapVerdict
from .verdicts import StopReason as StopReason
from .wakeup_message import wakeup_message
from .wire import attempts_json, charge_args, milliseconds, pairs, used_args, whole

#: Fewer than the arguments that some hosted servers take in one call, at two a job.
_MOST_RENEWED_AT_ONCE = 1_000
#: What a record submitted again says of the claims before it.
_PROGRESS = frozenset({"epoch", "handbacks", "generation"})


class Ledger:
    """The job records over one asyncio Redis client (with `decode_responses`).

    Every method raises redis-py's `ConnectionError` or `TimeoutError` once the client's retries
    are used up.
    """

    def __init__(
        self, redis: Redis, *, result_ttl: timedelta, costs_ttl: timedelta = timedelta(days=400)
    ) -> None:
        self._redis = redis
        self._library = FunctionLibrary(redis)
        self.limits = LimitLedger(redis)
        self.turns = TurnLedger(redis)
        self.flights = Flights(redis, result_ttl=result_ttl, costs_ttl=costs_ttl)
        self._ttl_ms = milliseconds(result_ttl)
        self._costs_ttl_ms = milliseconds(costs_ttl)

    async def submit(
        self,
        job: Job,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: timedelta = timedelta(hours=24),
        reply_channel: str | None = None,
        caller: str | None = None,
    ) -> tuple[SubmitVerdict, str]:
        """Write a new job and wake a worker up for it.

        Args:
            reply_channel: the result is published on the `result_key` of this, too, as `job id:result`.
            caller: the reply channel of the process that waits for this job, where its result is not sent
                there: should the process die, the job is cancelled, as one with a reply channel is.

        Returns the verdict and the id of the job that now stands for it.
        """
        names = [keys.job_key(job.id), *([idempotency_key] if idempotency_key else [])]
        record = [part for pair in job.to_hash().items() for part in pair]
        record += ["reply_channel", reply_channel] if reply_channel else []
        record += ["caller", caller] if caller else []
        head = [job.id, job.fingerprints, job.timeout_ms, self._ttl_ms, milliseconds(idempotency_ttl)]
        head += [keys.message_list(job.queue, job.priority), wakeup_message(job)]
        # A submit that its caller gave up must not reach Redis after the cancel that follows.
        verdict, job_id = await self._library.call("submit", names, [*head, *record], alone=True)
        return verdict, job_id

    async def detach(self, job_id: str) -> None:
        """Let a job go on whatever becomes of the process that submitted it."""
        # A write to a record that is gone would make one that nobody ever removes.
        if await self._redis.hget(keys.job_key(job_id), "caller"):
            await self._redis.hset(keys.job_key(job_id), "caller", "")

    async def announce(self, job: Job) -> None:
        """Wake a worker up for a job that is back on the queue; doing it twice does no harm.

        It has had its turn, and goes ahead of those that come now.
        """
        await self._redis.rpush(keys.message_list(job.queue, job.priority), wakeup_message(job))

    async def claim(
        self,
        job_id: str,
        *,
        worker: str,
        token: str,
        lease: timedelta,
        most_losses: int,
        reserve: timedelta = timedelta(0),
        steady_since_ms: int = 0,
        renewed_ms: int = 0,
    ) -> Claim:
        """Take the job for `lease`, unless it is another's, has ended or has no tries left.

        Args:
            reserve: for so long a job that Redis has lost, and its client has submitted again, is left to a
                worker that still runs it: see `take_back`.
            steady_since_ms: since when the caller's own renewals have gone through, on Redis' clock, and
            renewed_ms: the latest of them: the holder's have gone through, too.
        """
        args = [job_id, worker, token, milliseconds(lease), most_losses, milliseconds(reserve)]
        args += [steady_since_ms, renewed_ms]
        verdict, now_ms, *rest = await self._library.call("claim", [keys.job_key(job_id)], args)
        if not rest:
            return Claim(verdict, now_ms)
        if verdict == "reserved":
            return Claim(verdict, now_ms, reserved_for=timedelta(milliseconds=rest[0]))
        fields, closed = pairs(rest[0]), rest[1:] == [1]
        epoch = whole(fields.get("epoch"))
        try:
            return Claim(verdict, now_ms, JobRecord.from_hash(fields), epoch=epoch, limits_closed=closed)
        except Exception as violation:
            # Raised, it would leave the job claimed, and nobody would know by which epoch.
            return Claim(verdict, now_ms, violation=violation, epoch=epoch)

    async def take_back(
        self,
        record: JobRecord,
        request: str,
        *,
        lease: timedelta,
        begun: int,
        ended: Iterable[AttemptRecord],
    ) -> bool:
        """Keep a claim whose record Redis has lost, if no other worker has the job now.

        Args:
            record: as it was claimed.
            request: sealed, as the record had it.
            begun: provider calls that were in fact begun.
        """
        job = record.job
        own = {
            "worker": record.worker,
            "handbacks": record.handbacks,
            "started_ms": record.started_ms,
            "attempts_begun": begun,
            "attempts": attempts_json(ended),
        }
        submitted = {name: value for name, value in job.to_hash().items() if name not in _PROGRESS}
        submitted |= {"request": request, "created_ms": str(record.created_ms)}
        waiting = {"reply_channel": record.reply_channel, "caller": record.caller}
        submitted |= {name: value for name, value in waiting.items() if value}
        progress = [part for pair in own.items() if pair[1] is not None for part in pair]
        head = [job.id, record.epoch, job.fingerprints, milliseconds(lease), record.deadline_ms]
        head += [self._ttl_ms, job.generation, len(progress)]
        args = [*head, *progress, *(part for pair in submitted.items() for part in pair)]
        return bool(await self._library.call("take_back", [keys.job_key(job.id)], args))

    async def begin_attempt(
        self, job_id: str, epoch: int, *, begun: int, ended: Iterable[AttemptRecord]
    ) -> bool:
        """Put the next provider call on record before it is made. False when the lease is lost."""
        args = [job_id, epoch, begun, attempts_json(ended)]
        return bool(await self._library.call("begin_attempt", [keys.job_key(job_id)], args))

    async def renew(self, held: Mapping[str, int], *, lease: timedelta) -> Renewal:
        """Renew the leases of `held` (id to epoch), a thousand in one step. `now_ms` is the first step's."""
        first_ms: int | None = None
        stop: dict[str, StopReason] = {}
        for some in list(batched(held.items(), _MOST_RENEWED_AT_ONCE, strict=False)) or [()]:
            args = [part for pair in some for part in pair]
            now_ms, *found = await self._library.call("renew", [], [milliseconds(lease), *args])
            first_ms = first_ms or now_ms
            stop |= cast("dict[str, StopReason]", pairs(found))
        return Renewal(first_ms or 0, stop)

    async def emit(self, job_id: str, at: FrameId, frame: str, *, void_before: bool = False) -> bool:
        """Write the next frame of a stream and publish it. False when the lease is lost.

        `void_before` drops the frames before this one. Raises redis-py's `ResponseError` when Redis
        is out of memory.
        """
        names = [keys.job_key(job_id), keys.stream_log_key(job_id)]
        args = [job_id, at.epoch, at.seq, frame, keys.stream_channel(job_id), self._ttl_ms, int(void_before)]
        return bool(await self._library.call("emit", names, args))

    async def frames(self, job_id: str, *, after: FrameId, most: int) -> list[tuple[FrameId, str]]:
        """The frames of the log that come after `after`, at most `most` of them."""
        reply = await self._redis.xrange(keys.stream_log_key(job_id), min=f"({after}", count=most)
        entries = cast("list[tuple[str, dict[str, str]]]", reply)
        return [(FrameId.parse(at), fields.get("frame", "")) for at, fields in entries]

    async def finish(
        self, job_id: str, epoch: int, state: JobState, meta: str,
        *, attempts: Iterable[AttemptRecord], dead: bool = False, charge: Charge | None = None,
        uncounted_tokens: int = 0,
    ) -> FinishVerdict:  # fmt: skip
        """End a job this epoch holds, publish `meta` as its Celery result and book `charge`, in one step.

        What it holds of limits is settled by the charge's tokens and given back; `uncounted_tokens` of its
        input are none that the provider's limits count.
        """
        args = [
            job_id,
            epoch,
            state,
            meta,
            self._ttl_ms,
            attempts_json(attempts),
            int(dead),
            *used_args(CallUse.of_charge(charge, uncounted_tokens)),
        ]
        args += charge_args(charge, self._costs_ttl_ms)
        return cast(FinishVerdict, await self._library.call("finish", [keys.job_key(job_id)], args))

    async def conclude(
        self, job_id: str, epoch: int, state: JobState, meta: str, *, dead: bool = False
    ) -> bool:
        """End a job that nobody holds, if it still is as it was seen at `epoch`."""
        args = [job_id, epoch, state, meta, self._ttl_ms, int(dead)]
        return bool(await self._library.call("conclude", [keys.job_key(job_id)], args) == "done")

    async def cancel(self, job_id: str, *, by: str, meta: str, waiting_only: bool = False) -> CancelVerdict:
        """End a waiting job with `meta`; notify the worker of a running one, unless `waiting_only`."""
        args = [job_id, by, meta, self._ttl_ms, int(waiting_only)]
        return cast(CancelVerdict, await self._library.call("cancel", [keys.job_key(job_id)], args))

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
        args = [job_id, epoch, attempts_json(ended), begun, int(call_under_way)]
        return cast(HandBackVerdict, await self._library.call("hand_back", [keys.job_key(job_id)], args))

    async def reap(
        self, *, renewed_ms: int, within: timedelta, most: int = 100
    ) -> list[tuple[ReapVerdict, str]]:
        """Requeue the jobs whose lease ran out; name those to be concluded instead, and those withdrawn.

        Args:
            renewed_ms: when the caller last renewed its own leases, on Redis' clock.
            within: no lease is reaped when that was longer ago.
        """
        reply = await self._library.call("reap", [], [renewed_ms, milliseconds(within), most])
        return cast("list[tuple[ReapVerdict, str]]", list(batched(reply, 2, strict=True)))

    async def unannounced(
        self, queue: str, priority: Priority, *, patience: timedelta, most: int = 100
    ) -> list[str]:
        """The waiting jobs whose wake-up was lost, marked as announced now."""
        names = [keys.queued_key(queue, priority), keys.message_list(queue, priority)]
        reply = await self._library.call("unannounced", names, [milliseconds(patience), most])
        return cast("list[str]", reply)

    async def replay(self, job_id: str) -> bool:
        """Queue an ended job again. False when it was answered, runs, or is gone."""
        return bool(await self._library.call("replay", [keys.job_key(job_id)], [job_id, self._ttl_ms]))

    async def drop(self, job_id: str) -> bool:
        """Forget a dead job and what is left of it. False when there was nothing, or it has not ended."""
        return bool(await self._library.call("drop", [keys.job_key(job_id)], [job_id]))

    async def record(self, job_id: str) -> JobRecord | None:
        """The job as it stands, or None. Raises `ContractViolation` when it does not validate."""
        fields = cast("dict[str, str]", await self._redis.hgetall(keys.job_key(job_id)))
        return JobRecord.from_hash(fields) if fields else None

    async def now_ms(self) -> int:
        """Redis' clock, on which the records' times are."""
        return await now_ms(self._redis)

    async def epoch(self, job_id: str) -> int:
        """The number of the job's latest claim, readable even where the record is not."""
        return whole(await self._redis.hget(keys.job_key(job_id), "epoch"))

    async def load(self) -> None:
        """Load the functions into Redis; loading them twice does nothing.

        Raises `FunctionsMissing` when they are not there and this user may not load them.
        """
        await self._library.load()
