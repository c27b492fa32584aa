from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rustic_ai.llm_queue.tasks.answer_assembly import says_something
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.outcome import Account, Failed
from rustic_ai.llm_queue.tasks.owner import Owner

from ..attempts.log import AttemptLog
from .settlement import UNKNOWN_OWNER

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
    from rustic_ai.llm_queue.tasks.budget_state import BudgetState
    from rustic_ai.llm_queue.tasks.call import Call
    from rustic_ai.llm_queue.tasks.job import JobRecord
    from rustic_ai.llm_queue.tasks.ledger.ledger import Claim
    from rustic_ai.llm_queue.tasks.outcome import Outcome

    from ..attempts.answer import Answer
    from .reuse_port import ReuseTicket, VectorTicket


class StopReason(StrEnum):
    """Why work on a job is stopped before it is done."""

    #: Another worker has the lease now: write nothing any more.
    LOST = "lost"
    CANCELLED = "cancelled"
    #: Celery received a command to stop it, which operators alone can send.
    REVOKED = "revoked"
    #: This worker shuts down: hand the job back.
    SHUTDOWN = "shutdown"
    #: A gate had the ledger put the job back on the queue: this worker holds nothing of it.
    PARKED = "parked"


class Stopped(Exception):
    """Work on the job was stopped; the reason decides how it goes on."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Execution:
    """One claim of a job, from its wake-up to its end on this worker.

    It holds all that is known of the claim, and it is the one place where the job's work is stopped.
    Stopping cancels the work (and so closes the provider's connection), never what comes after
    it: the job is always settled or handed back.
    """

    # perf: benchmark.md, "A waiting job keeps no message, mark, …": no dictionary for each of thousands.
    __slots__ = (
        "_work",
        "admitted",
        "answer",
        "attempts",
        "began_ns",
        "budget",
        "call",
        "epoch",
        "first_token_ns",
        "first_token_s",
        "gates_passed",
        "job_id",
        "limits_closed",
        "now_ms",
        "outcome",
        "record",
        "reused",
        "since_s",
        "stop_reason",
        "violation",
        "waits_for",
        "worker",
    )

    def __init__(self, job_id: str, *, worker: str) -> None:
        self.job_id = job_id
        self.worker = worker
        #: The claim's number; 0 before the claim.
        self.epoch = 0
        self.record: JobRecord | None = None
        #: Why the record cannot be run.
        self.violation: Exception | None = None
        #: Some limit was closed to all workers when the job was claimed.
        self.limits_closed = False
        #: When it was claimed: on Redis' clock, in the loop's time, and as Unix time in nanoseconds.
        self.now_ms, self.since_s, self.began_ns = 0, 0.0, 0
        #: The provider calls, those of earlier claims among them.
        self.attempts: AttemptLog
        #: How many of the executor's gates let it through, and whether all of them did.
        self.gates_passed, self.admitted = 0, False
        #: The request, once it is opened.
        self.call: Call | None = None
        #: Where the call asks for an answer that is there, or on its way.
        self.reused: ReuseTicket | VectorTicket | None = None
        #: The provider's whole answer, from the moment it is there.
        self.answer: Answer | None = None
        #: Seconds between submit and the first chunk with content, None before or without one.
        self.first_token_s: float | None = None
        #: When that was, in Unix nanoseconds.
        self.first_token_ns: int | None = None
        #: How the job ended; None when it did not end here: handed back, or another worker's by now.
        self.outcome: Outcome | None = None
        #: Of the budgets that the latest call passed, the one with the least left.
        self.budget: BudgetState | None = None
        self.stop_reason: StopReason | None = None
        #: What the job waits for that this worker has left with the ledger.
        self.waits_for: str | None = None
        self._work: asyncio.Task[Any] | None = None

    def claimed(self, claim: Claim) -> None:
        """Take in a claim that was granted."""
        self.epoch, self.record, self.violation = claim.epoch, claim.record, claim.violation
        self.now_ms, self.limits_closed = claim.now_ms, claim.limits_closed
        self.since_s, self.began_ns = asyncio.get_running_loop().time(), time.time_ns()
        if self.record is None:
            self.attempts = AttemptLog(epoch=claim.epoch, begun=1)
            return
        # At least one, whatever the record says: this claim's own.
        begun = max(self.record.attempts_begun, 1)
        self.attempts = AttemptLog(epoch=self.record.epoch, begun=begun, ended=self.record.attempts)

    # Stopping it

    def stop(self, reason: StopReason) -> None:
        """Stop the work now, or before it begins. The first reason stands, but for a lost lease."""
        if self.stop_reason is None or reason is StopReason.LOST:
            self.stop_reason = reason
        if self._work is not None:
            self._work.cancel()

    def check(self) -> None:
        """Raise `Stopped` if it was."""
        if self.stop_reason is not None:
            raise Stopped(self.stop_reason)

    async def work[T](self, coro: Coroutine[Any, Any, T]) -> T:
        """Do `coro`, unless it is stopped: then `Stopped`."""
        if self.stop_reason is not None:
            coro.close()
            raise Stopped(self.stop_reason)
        work = asyncio.create_task(coro, name=f"job {self.job_id}")
        self._work = work
        try:
            return await work
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self._work = None

    # What there is to report

    @property
    def owner(self) -> Owner:
        return self.record.job.owner if self.record else UNKNOWN_OWNER

    @property
    def elapsed_s(self) -> float:
        """Seconds since the claim."""
        return asyncio.get_running_loop().time() - self.since_s

    @property
    def redis_ms(self) -> int:
        """Now, in Unix milliseconds on Redis' clock."""
        return self.now_ms + round(1000 * self.elapsed_s)

    def passed_budget(self, state: BudgetState | None) -> None:
        """Take note of the tightest of the budgets that the next call has passed."""
        self.budget = state

    def waits_at(self, limit: str) -> None:
        """Take note of the limit that the job is parked at."""
        self.waits_for = limit

    @property
    def deadline_s(self) -> float:
        """The job's deadline, in the running loop's time."""
        assert self.record is not None
        return self.since_s + (self.record.deadline_ms - self.now_ms) / 1000

    @property
    def timeout_s(self) -> float:
        """The time that the job was given in all."""
        assert self.record is not None
        return self.record.job.timeout_ms / 1000

    @property
    def new_attempts(self) -> tuple[AttemptRecord, ...]:
        """The attempts of which no earlier claim knew."""
        known = {attempt.number for attempt in self.record.attempts} if self.record else set()
        return tuple(attempt for attempt in self.attempts.records if attempt.number not in known)

    def note_chunk(self, chunk: Mapping[str, Any]) -> None:
        """Take the time of the stream's first chunk with content."""
        if self.first_token_s is None and says_something(chunk):
            created_ms = self.record.created_ms if self.record else self.now_ms
            self.first_token_s = max(self.now_ms - created_ms, 0) / 1000 + self.elapsed_s
            self.first_token_ns = time.time_ns()

    def account(self) -> Account:
        """What the job has taken so far, answered or not."""
        record = self.record
        if record is None:
            return Account(worker=self.worker)
        usage = (
            self.answer.usage
            if self.answer is not None
            else self.attempts.unanswered_usage(estimated_prompt_tokens=record.job.estimated_tokens)
        )
        attempts = self.attempts.records
        return Account(
            **dict(usage),
            attempts=attempts,
            queue_wait_s=max((record.started_ms or self.now_ms) - record.created_ms, 0) / 1000,
            run_time_s=round(self.elapsed_s, 3),
            worker=self.worker,
            limited_s=record.limited_ms / 1000,
            limited_by=record.limit_name,
            budget=self.budget,
            possible_duplicate_charge=record.job.generation > 0
            or any(attempt.status == "lost" for attempt in attempts),
        )

    def failed(self, error: ErrorEnvelope) -> Failed:
        """The outcome with this error."""
        return Failed(account=self.account(), error=error)
