from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from rustic_ai.llm_queue.tasks.call import Call
from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.job import open_call
from rustic_ai.llm_queue.tasks.ledger.ledger import FinishVerdict, Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled, Expired, Failed, Outcome
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

from ..admission.cooldowns import Cooldowns
from ..admission.estimates import NO_CACHED_READS
from ..admission.gate import CallGate, JobGate, Refused
from ..attempts.answer import Answer, AttemptsFailed, DeadlinePassed
from ..attempts.attempts import attempt_all
from ..attempts.full_tier import FullTier
from ..attempts.ports import ChunkSink
from ..attempts.run_times import RunTimes
from ..provider.provider import Provider
from ..provider.targets.policy import check_job
from ..settings import WorkerSettings
from .announcer import Announcer
from .claim_when_free import claim_when_free
from .execution import Execution, Stopped, StopReason
from .intake import Intake
from .journal import LedgerJournal
from .leases import Leases
from .observers import Observers
from .reuse_port import Reuse
from .settlement import Settlement, expired, gave_up, worker_fault, worker_lost
from .streaming.publisher import StreamPublisher
from .take_back import TakeBack

logger = get_logger(__name__)


@dataclass(frozen=True)
class Executor:
    """Runs one job from its wake-up to its end: claim, admit, open, reuse or attempt, settle."""

    settings: WorkerSettings
    ledger: Ledger
    sealer: Sealer
    leases: Leases
    settlement: Settlement
    announcer: Announcer
    provider: Provider
    observers: Observers
    cooldowns: Cooldowns
    intake: Intake
    #: What a job passes, in this order, before it runs; and what each of its calls passes.
    gates: Sequence[JobGate] = ()
    call_gates: Sequence[CallGate] = ()
    reuse: Reuse | None = None
    run_times: RunTimes = field(default_factory=RunTimes)

    async def execute(self, execution: Execution) -> Outcome | None:
        """Carry the job to its end. None when there was nothing to do, or it was handed back."""
        if not await self._claim(execution):
            return None
        # perf: benchmark.md, "A waiting job keeps no …": a context manager would be a kilobyte for as
        # long as the job runs, and each frame half of one.
        try:
            outcome: Outcome | None
            try:
                if not await self._admit(execution):
                    return None
                self.leases.hold(execution)
                self._open(execution)
                outcome = await self._reused(execution) or await self._attempt(execution)
            except Refused as refused:
                outcome = execution.failed(refused.envelope)
            except Stopped as stopped:
                outcome = await self._stop(execution, stopped.reason)
            return await self._settle(execution, outcome) if outcome is not None else None
        except OUTAGE_ERRORS:
            # Redis was away for longer than `outage`: nothing can be written, and the lease runs out.
            raise
        except Exception as error:
            # Left to its lease, the job would be run again, and billed again, to meet the same fault.
            return await self._settle(execution, _fault(execution, error))
        finally:
            await self._let_go(execution)

    async def _claim(self, execution: Execution) -> bool:
        job_id = execution.job_id
        try:
            claim = await claim_when_free(self.ledger, execution, self.settings, self.leases)
        except Stopped:
            # Its wake-up goes with it: a reaper sends another.
            return False
        if claim.verdict == "granted":
            execution.claimed(claim)
            self.intake.claimed(execution)
            return True
        if claim.verdict == "expired":
            await self.settlement.conclude(job_id, claim.epoch, claim.record, expired(claim.record))
        elif claim.verdict == "exhausted":
            await self.settlement.conclude(job_id, claim.epoch, claim.record, worker_lost(claim.record))
        elif claim.verdict == "missing":
            logger.warning("A wake-up for job %s, of which nothing is known", job_id)
        elif claim.verdict != "withdrawn":
            self.observers.avoided(claim.verdict)
        return False

    async def _admit(self, execution: Execution) -> bool:
        for gate in self.gates:
            if await gate.admit(execution) == "parked":
                return False
            execution.gates_passed += 1
        execution.admitted = True
        return True

    def _open(self, execution: Execution) -> None:
        """Raises `Refused` when the job may not run, or cannot be read."""
        record = execution.record
        if record is None:
            if execution.violation is None or isinstance(execution.violation, ContractViolation):
                raise _unreadable(str(execution.violation))
            raise execution.violation
        job = record.job
        if job.id != execution.job_id:
            # The seal binds a request to the id in its record, so that has to be its own.
            raise _unreadable("it is another job's record, moved here")
        try:
            check_job(job, self.settings)
            execution.call = open_call(job, self.sealer, max_age=self.settings.oldest_request)
        except PolicyViolation as violation:
            envelope = ErrorEnvelope(kind=violation.kind, message=str(violation), model=job.model)
            raise Refused(envelope) from None
        except ContractViolation as violation:
            raise _unreadable(str(violation)) from None
        job.forget_request()

    async def _reused(self, execution: Execution) -> Outcome | None:
        """The outcome of a job that an equal call answers. Raises `Stopped` when it waits for one."""
        if self.reuse is None or execution.call is None or execution.call.reuse is None:
            return None
        return await self.reuse.find(execution)

    async def _attempt(self, execution: Execution) -> Outcome:
        """Raises `Stopped`."""
        try:
            answer = await execution.work(self._answer(execution))
        except AttemptsFailed as failed:
            return execution.failed(failed.envelope)
        except DeadlinePassed:
            return Expired(account=execution.account())
        except Stopped as stopped:
            if stopped.reason is not StopReason.SHUTDOWN or execution.answer is None:
                raise
            # The answer arrived and is billed; only its last frames were not published.
            answer = execution.answer
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if execution.answer is None:
                return _fault(execution, error)
            # The answer arrived and is billed: no fault that comes after it may lose it.
            _log_fault(execution, error)
            answer = execution.answer
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody asked for it: a library has cancelled the work from within.
            return _fault(execution, error)
        return Answered(account=execution.account(), model=answer.model, response=answer.response)

    async def _answer(self, execution: Execution) -> Answer:
        call, record = execution.call, execution.record
        assert call is not None
        assert record is not None
        if not call.stream:
            execution.answer = await self._attempts(execution, call, None)
            return execution.answer
        async with StreamPublisher(
            record.job,
            execution,
            ledger=self.ledger,
            sealer=self.sealer,
            take_back=self._take_back,
            settings=self.settings,
        ) as publisher:
            execution.answer = await self._attempts(execution, call, publisher)
        return execution.answer

    def _attempts(self, execution: Execution, call: Call, sink: ChunkSink | None) -> Awaitable[Answer]:
        journal = LedgerJournal(
            self.ledger, self.call_gates, self.cooldowns, self.intake, execution, self._take_back
        )
        return attempt_all(
            call,
            log=execution.attempts,
            deadline_s=execution.deadline_s,
            provider=self.provider,
            settings=self.settings,
            journal=journal,
            sink=sink,
            org=execution.owner.org,
            full_tier=FullTier(self.run_times, execution.timeout_s, call.max_wait_s),
        )

    async def _settle(self, execution: Execution, outcome: Outcome) -> Outcome | None:
        if execution.reused is not None and self.reuse is not None:
            outcome = await self._pass_on(self.reuse.keep, execution, outcome) or outcome
        verdict, outcome = await self._finish(execution, outcome)
        if verdict == "stale" and await self._take_back(execution):
            verdict, outcome = await self._finish(execution, outcome)
        if verdict == "stale":
            logger.warning("Job %s ended here after its lease was lost: nothing is written", execution.job_id)
            self.observers.avoided(verdict)
            return None
        execution.outcome = outcome
        if execution.reused is not None and self.reuse is not None:
            await self._pass_on(self.reuse.share, execution, outcome)
        return outcome

    @property
    def _take_back(self) -> TakeBack:
        return TakeBack(self.ledger, self.sealer, self.settings.lease, self.leases.standstill)

    async def _finish(self, execution: Execution, outcome: Outcome) -> tuple[FinishVerdict, Outcome]:
        target = execution.attempts.target
        return await self.settlement.finish(
            execution.job_id,
            execution.owner,
            execution.epoch,
            outcome,
            execution.attempts.records,
            own_endpoint=target is not None and target.foreign,
            cached_reads_count=target is None or target.provider not in NO_CACHED_READS,
        )

    async def _pass_on[T](
        self, step: Callable[[Execution, Outcome], Awaitable[T]], execution: Execution, outcome: Outcome
    ) -> T | None:
        try:
            return await step(execution, outcome)
        except Exception:
            # This job ends all the same. Those that follow it are found by the reaper, and ask anew.
            logger.exception("Job %s could not pass its answer on to equal calls", execution.job_id)
            return None

    async def _stop(self, execution: Execution, reason: StopReason) -> Outcome | None:
        """How the job ends; None when it does not end here."""
        if reason in (StopReason.LOST, StopReason.PARKED):
            return None
        if reason is StopReason.REVOKED:
            return Cancelled(account=execution.account(), by="operator")
        if reason is StopReason.CANCELLED:
            now_ms = execution.now_ms + 1000 * execution.elapsed_s
            if gave_up(execution.record, now_ms):
                return Expired(account=execution.account())
            return await self._cancelled(execution)
        return await self._hand_back(execution)

    async def _hand_back(self, execution: Execution) -> Outcome | None:
        begun, cut_short = execution.attempts.abandon()
        verdict = await self.ledger.hand_back(
            execution.job_id,
            execution.epoch,
            begun=begun,
            ended=execution.attempts.records,
            call_under_way=cut_short,
        )
        match verdict:
            case "queued":
                logger.info("Job %s is handed back to the queue", execution.job_id)
                await self.announcer.announce(execution.job_id)
            case "cancelled":
                return await self._cancelled(execution)
            case "lost":
                return worker_lost(execution.record)
        return None

    async def _cancelled(self, execution: Execution) -> Cancelled:
        try:
            record = await self.ledger.record(execution.job_id)
        except ContractViolation:
            record = None
        by = record.cancel_by if record else None
        return Cancelled(account=execution.account(), by=by or "caller")

    async def _let_go(self, execution: Execution) -> None:
        self.leases.let_go(execution)
        if execution.admitted:
            self.observers.run_ended(execution)
        for gate in reversed(self.gates[: execution.gates_passed]):
            try:
                await gate.leave(execution)
            except Exception as error:
                # The job has ended: what a gate keeps of it may not change that.
                _log_fault(execution, error)


def _unreadable(why: str) -> Refused:
    # Names of fields that are not ours may stand in it, and be of any length.
    message = f"The job could not be read: {why[:1000]}"
    return Refused(ErrorEnvelope(kind=ErrorKind.INVALID_RECORD, message=message))


def _fault(execution: Execution, error: BaseException) -> Failed:
    _log_fault(execution, error)
    try:
        account = execution.account()
    except Exception:
        logger.exception("What job %s has taken is not known", execution.job_id)
        account = Account(worker=execution.worker)
    return Failed(account=account, error=worker_fault(error))


def _log_fault(execution: Execution, error: BaseException) -> None:
    logger.error("Job %s met a fault of the worker's", execution.job_id, exc_info=error)
