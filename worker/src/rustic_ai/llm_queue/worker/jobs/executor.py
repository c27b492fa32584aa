from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.job import JobRecord, open_call
from rustic_ai.llm_queue.tasks.ledger.ledger import Claim, Ledger
from rustic_ai.llm_queue.tasks.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled, Expired, Failed, Outcome
from rustic_ai.llm_queue.tasks.seal import Sealer

from ..admission.guild_limit import GuildShare
from ..attempts.attempts import Answer, AttemptsFailed, ChunkSink, DeadlinePassed, attempt_all
from ..attempts.log import AttemptLog
from ..attempts.spent import Spent, spent_without_answer
from ..provider.provider import Provider
from ..provider.targets.policy import check_job
from ..settings import WorkerSettings
from .announcer import Announcer
from .held_job import HeldJob, Stopped, StopReason
from .job_run import JobRun
from .leases import Leases
from .observers import Observers
from .settlement import UNKNOWN_OWNER, Settlement, expired, gave_up, worker_lost
from .streaming.publisher import StreamPublisher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Executor:
    """Runs one job from its wake-up to its end: claim, open, attempt, settle."""

    settings: WorkerSettings
    worker: str
    ledger: Ledger
    sealer: Sealer
    leases: Leases
    settlement: Settlement
    announcer: Announcer
    provider: Provider
    #: None where a guild may have all it wants.
    share: GuildShare | None
    observers: Observers

    async def execute(self, held: HeldJob) -> Outcome | None:
        """Carry the job to its end. None when there was nothing to do, or it was handed back."""
        claim = await self._claim(held)
        if claim is None:
            return None
        if self.share is None:
            return await self._carry_out(held, claim)
        async with self.share.place(held, claim) as granted:
            return await self._carry_out(held, claim) if granted else None

    async def _carry_out(self, held: HeldJob, claim: Claim) -> Outcome | None:
        log = _attempt_log(claim)
        held.run = JobRun(held.job_id, claim, log, worker=self.worker)
        # No context managers: theirs would be a kilobyte for as long as the job runs.
        self.leases.hold(held)
        try:
            try:
                outcome = await self._produce(claim, held, log)
            except Stopped as stopped:
                return await self._stop(stopped.reason, claim, held, log)
            return await self._finish(claim, held, outcome, log)
        finally:
            try:
                self.observers.run_ended(held.run)
            finally:
                self.leases.let_go(held)

    async def _claim(self, held: HeldJob) -> Claim | None:
        claim = await self.ledger.claim(
            held.job_id,
            worker=self.worker,
            token=uuid4().hex,
            lease=self.settings.lease,
            most_losses=self.settings.most_losses,
        )
        held.epoch = claim.epoch
        if claim.verdict == "granted":
            return claim
        if claim.verdict == "expired":
            await self.settlement.conclude(held.job_id, claim.epoch, claim.record, expired(claim.record))
        elif claim.verdict == "exhausted":
            await self.settlement.conclude(held.job_id, claim.epoch, claim.record, worker_lost(claim.record))
        elif claim.verdict == "missing":
            logger.warning("A wake-up for job %s, of which nothing is known", held.job_id)
        elif claim.verdict != "withdrawn":
            self.observers.avoided(claim.verdict)
        return None

    async def _produce(self, claim: Claim, held: HeldJob, log: AttemptLog) -> Outcome:
        if claim.record is None:
            return _unreadable(str(claim.violation))
        job = claim.record.job
        if job.id != held.job_id:
            # The seal binds a request to the id in its record, so that has to be its own.
            return _unreadable("it is another job's record, moved here")
        try:
            check_job(job, self.settings)
            call = held.run.call = open_call(job, self.sealer, max_age=self.settings.oldest_request)
            job.forget_request()
        except PolicyViolation as violation:
            return Failed(
                account=self._account(claim, held, log),
                error=ErrorEnvelope(kind=violation.kind, message=str(violation), model=job.model),
            )
        except ContractViolation as violation:
            return _unreadable(str(violation))
        try:
            answer = await held.work(self._answer(call, claim.record, claim.now_ms, held, log))
        except AttemptsFailed as failed:
            return Failed(account=self._account(claim, held, log), error=failed.envelope)
        except DeadlinePassed:
            return Expired(account=self._account(claim, held, log))
        except Stopped as stopped:
            if stopped.reason is not StopReason.SHUTDOWN or held.answer is None:
                raise
            # It is here and paid for: only the last of its stream was not told.
            answer = held.answer
        except Exception as error:
            # A fault of ours must end the job too, or its caller would wait for the deadline.
            logger.exception("Job %s met a fault of the worker's", held.job_id)
            envelope = ErrorEnvelope(
                kind=ErrorKind.WORKER_FAULT,
                message=f"The worker failed on this job ({type(error).__name__}); its log has the details.",
            )
            return Failed(account=self._account(claim, held, log), error=envelope)
        return Answered(
            account=self._account(claim, held, log, answer), model=answer.model, response=answer.response
        )

    async def _answer(
        self, call: CompletionCall, record: JobRecord, now_ms: int, held: HeldJob, log: AttemptLog
    ) -> Answer:
        deadline_s = asyncio.get_running_loop().time() + (record.deadline_ms - now_ms) / 1000
        if not call.stream:
            held.answer = await self._attempts(call, deadline_s, held, log, None)
            return held.answer
        async with StreamPublisher(
            record.job, held, ledger=self.ledger, sealer=self.sealer, settings=self.settings
        ) as publisher:
            held.answer = await self._attempts(call, deadline_s, held, log, held.run.timed(publisher))
        return held.answer

    def _attempts(
        self, call: CompletionCall, deadline_s: float, held: HeldJob, log: AttemptLog, sink: ChunkSink | None
    ) -> Awaitable[Answer]:
        return attempt_all(
            call,
            log=log,
            deadline_s=deadline_s,
            provider=self.provider,
            settings=self.settings,
            journal=LedgerJournal(self.ledger, held),
            sink=sink,
        )

    async def _finish(self, claim: Claim, held: HeldJob, outcome: Outcome, log: AttemptLog) -> Outcome | None:
        owner = claim.record.job.owner if claim.record else UNKNOWN_OWNER
        verdict = await self.settlement.finish(held.job_id, owner, held.epoch, outcome, log.records)
        if verdict == "stale":
            logger.warning("Job %s ended here after its lease was lost: nothing is written", held.job_id)
            self.observers.avoided(verdict)
            return None
        held.run.outcome = outcome
        return outcome

    async def _stop(self, reason: StopReason, claim: Claim, held: HeldJob, log: AttemptLog) -> Outcome | None:
        if reason is StopReason.LOST:
            return None
        if reason is StopReason.CANCELLED:
            account = self._account(claim, held, log)
            now_ms = claim.now_ms + 1000 * (asyncio.get_running_loop().time() - held.since_s)
            ended = Expired if gave_up(claim.record, now_ms) else Cancelled
            return await self._finish(claim, held, ended(account=account), log)
        begun, cut_short = log.abandon()
        verdict = await self.ledger.hand_back(
            held.job_id, held.epoch, begun=begun, ended=log.records, call_under_way=cut_short
        )
        match verdict:
            case "queued":
                logger.info("Job %s is handed back to the queue", held.job_id)
                await self.announcer.announce(held.job_id)
            case "cancelled":
                return await self._finish(
                    claim, held, Cancelled(account=self._account(claim, held, log)), log
                )
            case "lost":
                return await self._finish(claim, held, worker_lost(claim.record), log)
        return None

    def _account(self, claim: Claim, held: HeldJob, log: AttemptLog, answer: Answer | None = None) -> Account:
        record = claim.record
        if record is None:
            return Account(worker=self.worker)
        started_ms = record.started_ms or claim.now_ms
        if answer is None:
            spent = spent_without_answer(log, prompt_tokens=record.job.estimated_tokens)
        else:
            spent = Spent(answer.usage, answer.cost_usd)
        return Account(
            attempts=tuple(log.records),
            queue_wait_s=max(started_ms - record.created_ms, 0) / 1000,
            run_time_s=round(asyncio.get_running_loop().time() - held.since_s, 3),
            worker=self.worker,
            cost_usd=spent.cost_usd,
            prompt_tokens=spent.usage.prompt_tokens,
            completion_tokens=spent.usage.completion_tokens,
            cached_tokens=spent.usage.cached_tokens,
            reasoning_tokens=spent.usage.reasoning_tokens,
            usage_estimated=spent.estimated,
            possible_duplicate_charge=record.job.generation > 0
            or any(attempt.status == "lost" for attempt in log.records),
        )


class LedgerJournal:
    """Puts every provider call on record in the ledger before it is made."""

    def __init__(self, ledger: Ledger, held: HeldJob) -> None:
        self._ledger, self._held = ledger, held

    async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
        """Raises `Stopped` when the lease was lost."""
        granted = await self._ledger.begin_attempt(
            self._held.job_id, self._held.epoch, begun=number, ended=ended
        )
        if not granted:
            self._held.stop(StopReason.LOST)
            raise Stopped(StopReason.LOST)


def _attempt_log(claim: Claim) -> AttemptLog:
    record: JobRecord | None = claim.record
    if record is None:
        return AttemptLog(epoch=claim.epoch, begun=1)
    # At least one, whatever the record says: this claim's own.
    begun = max(record.attempts_begun, 1)
    return AttemptLog(epoch=record.epoch, begun=begun, ended=record.attempts)


def _unreadable(why: str) -> Failed:
    # Names of fields that are not ours may stand in it, and be of any length.
    error = ErrorEnvelope(kind=ErrorKind.INVALID_RECORD, message=f"The job could not be read: {why[:1000]}")
    return Failed(account=Account(), error=error)
