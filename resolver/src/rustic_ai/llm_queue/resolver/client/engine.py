from __future__ import annotations

import asyncio
import atexit
import os
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.cluster_mode import refuse_cluster_mode
from rustic_ai.llm_queue.tasks.connection.redis_client import SOCKET_TIMEOUT_S, connect
from rustic_ai.llm_queue.tasks.connection.redis_errors import LOGIN_ERRORS, OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.job import Job, JobRecord
from rustic_ai.llm_queue.tasks.ledger.cancel import cancel_job
from rustic_ai.llm_queue.tasks.ledger.keys import result_key
from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict, Ledger
from rustic_ai.llm_queue.tasks.ledger.verdicts import SubmitVerdict
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..streams.source import StreamSource
from .background.chores import Chores
from .background.loop import BackgroundLoop
from .errors import REDIS_FAILURES, QueueGone, SubmitConflict, WaitTimeout
from .outage_timeout import OutageTimeout
from .outcome_source import OutcomeSource
from .outcomes import Outcomes
from .presence import Presence
from .resubmit import Resubmit
from .stream_reader import StreamReader
from .subscriptions import Subscriptions
from .waiter import ResultWaiter

logger = get_logger(__name__)

#: How long the engine tries to cancel a job that its caller has left.
_ABANDON_FOR_S = 120.0
#: How long a process that ends still tries to cancel, and how long it takes to know which jobs to cancel.
_LAST_CHORES_S = 2.0
_CANCELLED_CALLS_S = 0.02


class Engine:
    """What one process needs of the queue: an event loop, a few connections.

    Every agent of the process shares it. Nothing touches the network until the first call, and a
    forked child makes its own.
    """

    _shared: dict[tuple[int, str], Engine] = {}  # noqa: RUF012  guarded by _lock, one per process
    _lock = threading.Lock()

    def __init__(self, settings: QueueSettings) -> None:
        self.settings = settings
        self._sealer = settings.sealer()
        self._loop = BackgroundLoop("llm-queue-client")
        self._redis_timeout_s = settings.redis_timeout.total_seconds()
        # Half the time, so that a second connection can be tried before the call fails.
        half_s = min(SOCKET_TIMEOUT_S, self._redis_timeout_s / 2)
        to_redis = partial(connect, settings.redis_url, key_tag=settings.key_tag)
        self._redis: Redis = to_redis(outage_s=self._redis_timeout_s, socket_timeout=half_s)
        patient = to_redis(outage_s=_ABANDON_FOR_S)
        # No retries: the subscriptions reconnect by themselves, and then look for what they missed.
        waiting = to_redis(outage_s=0)
        self._mode_is_known = False
        self._outage_timeout = OutageTimeout(self._redis_timeout_s)
        self._clients = (self._redis, patient, waiting)
        self._ledger = Ledger(self._redis, result_ttl=settings.result_ttl)
        self._patient_ledger = Ledger(patient, result_ttl=settings.result_ttl)
        reply_channel = str(uuid.uuid4())
        self._subscriptions = Subscriptions(waiting, always=result_key(reply_channel))
        self._presence = Presence(self._redis, reply_channel)
        self._chores = Chores()
        self._waiter = ResultWaiter(
            self._subscriptions,
            waiting,
            reply_channel,
            on_joined=lambda: self._chores.begin(self._presence.announce()),
        )
        self._outcomes = Outcomes(self._redis, self._sealer, redis_timeout_s=self._redis_timeout_s)

    @classmethod
    def shared(cls, settings: QueueSettings) -> Engine:
        """The process's engine for these settings."""
        key = (os.getpid(), _identity(settings))
        with cls._lock:
            if key not in cls._shared:
                cls._shared[key] = cls(settings)
            return cls._shared[key]

    @classmethod
    def close_shared(cls) -> None:
        """Close the process's engines; the next call makes new ones."""
        with cls._lock:
            engines = [engine for (pid, _), engine in cls._shared.items() if pid == os.getpid()]
        for engine in engines:
            engine.close()

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        """Run on the engine's loop and wait, from a thread."""
        return self._loop.call(coro_fn)

    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        """Run on the engine's loop and wait, from any event loop. Cancelling this cancels that."""
        return await self._loop.acall(coro_fn)

    def close(self) -> None:
        """End the loop, its connections and threads. Closing twice is safe."""
        with self._lock:
            for key in [key for key, engine in self._shared.items() if engine is self]:
                del self._shared[key]
        if self._loop.running:
            self._loop.call(self._disconnect)
            self._loop.stop()

    async def _disconnect(self) -> None:
        # A call that a Ctrl-C has just cut short comes to its cancelling now.
        await asyncio.sleep(_CANCELLED_CALLS_S)
        await self._chores.finish(_LAST_CHORES_S)
        await self._presence.leave(calls_wait=self._waiter.waits)
        await self._waiter.close()
        await self._subscriptions.close()
        for client in self._clients:
            await client.aclose()

    def expecting(self, job_id: str) -> AbstractContextManager[None]:
        """While a job is submitted and its `outcome` awaited: such a job needs no subscription of its own."""
        return self._waiter.expecting(job_id)

    async def submit(self, job: Job, idempotency_key: str | None = None) -> str:
        """Put the job on the queue. Returns the id of the job that stands for it.

        Raises `QueueGone` within the settings' `redis_timeout`, `SubmitConflict`; `SettingsError` for a Redis
        that is in cluster mode and not set up as one.
        """
        try:
            verdict, job_id = await self._outage_timeout.wait(self._write(job, idempotency_key))
        except asyncio.CancelledError:
            self.abandon(job.id, job.owner)
            raise
        except REDIS_FAILURES as error:
            if isinstance(error, OUTAGE_ERRORS) and not isinstance(error, LOGIN_ERRORS):
                # It may have been written all the same, and nobody will wait for it.
                self.abandon(job.id, job.owner)
            raise self._gone(error) from None
        if verdict == "conflict":
            raise SubmitConflict(f"the idempotency key stands for another request, of job {job_id}")
        return job_id

    async def _write(self, job: Job, idempotency_key: str | None) -> tuple[SubmitVerdict, str]:
        if not self._mode_is_known:
            await refuse_cluster_mode(self._redis, self.settings.redis_url)
            self._mode_is_known = True
        return await self._ledger.submit(
            job,
            idempotency_key=idempotency_key,
            idempotency_ttl=self.settings.idempotency_ttl,
            reply_channel=self._waiter.reply_channel(job.id),
            caller=self._presence.caller_of(job.id),
        )

    async def outcome(
        self,
        job_id: str,
        owner: Owner,
        *,
        deadline_s: float | None,
        job: Job | None = None,
        epoch: int = 0,
    ) -> Outcome:
        """Wait for the job's end.

        Args:
            epoch: the first claim that can end the job, where it is known: see `JobRecord.ending_epoch`.
            deadline_s: seconds from now; None waits for as long as it takes.
            job: what to submit again should Redis have lost it; of an `expecting` caller.

        Raises `WaitTimeout`, `QueueGone` when Redis refuses; the job is not cancelled by either.
        """
        watching = self._waiter.watch(job_id, expected=job is not None)
        try:
            async with asyncio.timeout(deadline_s) as deadline, watching as watch:
                resubmit = self._resubmit(job, deadline.when())
                return await self._outcomes.follow(watch, job_id, owner, resubmit, epoch=epoch)
        except TimeoutError:
            raise WaitTimeout(job_id) from None
        except RedisError as error:
            raise self._gone(error) from None

    async def stored_outcome(self, job_id: str, owner: Owner) -> Outcome | None:
        """How an ended job ended; None when its result is no longer kept. Raises `QueueGone`."""
        return await self._bounded(self._outcomes.now(job_id, owner))

    def stream(
        self,
        job: Job,
        *,
        ended: bool = False,
        keep_until: float | None = None,
        awaited: bool = False,
        epoch: int = 0,
    ) -> StreamSource:
        """The source of a job's stream; a job that does not stream comes whole, at its end.

        Args:
            ended: the job is known to have ended.
            keep_until: submit the job again should Redis lose it before this time of the loop.
            awaited: cancel the job should this process die.
        """
        if awaited:
            self._waiter.open()
            self._presence.await_stream(job.id)
        if not job.stream:
            return OutcomeSource(self, job, epoch)
        return StreamReader(
            job.id,
            job.owner,
            subscriptions=self._subscriptions,
            ledger=self._ledger,
            sealer=self._sealer,
            fetch_outcome=lambda: self._outcomes.now(job.id, job.owner),
            ended=ended,
            on_close=lambda: self._presence.left(job.id),
            resubmit=self._resubmit(job, keep_until) if keep_until is not None else None,
        )

    async def cancel(self, job_id: str, owner: Owner, *, by: str = "caller") -> CancelVerdict:
        """Cancel the job. Raises `QueueGone`."""
        return await self._bounded(cancel_job(self._ledger, self._sealer, job_id, by=by, owner=owner))

    def abandon(self, job_id: str, owner: Owner) -> None:
        """Cancel the job in the background, for as long as Redis may be away."""
        self._chores.begin(self._abandon(job_id, owner))

    def detach(self, job_id: str) -> None:
        """Let the job go on, whatever becomes of this process. Redis is informed in the background."""
        self._presence.left(job_id)
        self._chores.begin(self._detach(job_id))

    async def check(self) -> None:
        """Raises `QueueGone` unless Redis answers."""
        await self._bounded(self._ledger.now_ms())

    async def left_s(self, record: JobRecord) -> float:
        """Seconds to the job's deadline, by Redis' clock. Raises `QueueGone`."""
        now_ms = await self._bounded(self._ledger.now_ms())
        return (record.deadline_ms - now_ms) / 1000

    async def record(self, job_id: str) -> JobRecord | None:
        """The job as it stands; None when it is not known (any more). Raises `QueueGone`."""
        return await self._bounded(self._ledger.record(job_id))

    def _resubmit(self, job: Job | None, ends_at: float | None) -> Resubmit | None:
        if job is None:
            return None
        return Resubmit(
            job,
            ends_at=ends_at,
            reply_channel=self._waiter.reply_channel(job.id),
            caller=self._presence.caller_of,
            on_lost=self._announce_again,
            redis=self._redis,
            ledger=self._ledger,
        )

    def _announce_again(self) -> None:
        if self._waiter.has_joined:
            self._chores.begin(self._presence.announce())

    async def _bounded[T](self, step: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._outage_timeout.wait(step)
        except REDIS_FAILURES as error:
            raise self._gone(error) from None

    async def _abandon(self, job_id: str, owner: Owner) -> None:
        try:
            await cancel_job(self._patient_ledger, self._sealer, job_id, by="caller", owner=owner)
        except REDIS_FAILURES as error:
            logger.error(
                "Job %s could not be cancelled (%s): its deadline will end it", job_id, type(error).__name__
            )

    async def _detach(self, job_id: str) -> None:
        try:
            await self._patient_ledger.detach(job_id)
        except REDIS_FAILURES as error:
            logger.error("Job %s could not be detached: %s", job_id, type(error).__name__)

    def _gone(self, error: Exception) -> QueueGone:
        return QueueGone.because(error, within_s=self._redis_timeout_s)


@lru_cache(maxsize=8)
def _identity(settings: QueueSettings) -> str:
    values = settings.model_dump(mode="json", exclude={"sealing_keys"})
    return f"{sorted(values.items())}{settings.sealing_keys.get_secret_value()}"


def _after_fork() -> None:
    # The parent's thread does not exist here, and its lock may have been held.
    Engine._lock = threading.Lock()
    Engine._shared = {}


os.register_at_fork(after_in_child=_after_fork)
# A process that is interrupted has jobs to cancel, or their answers are billed and never read.
atexit.register(Engine.close_shared)
