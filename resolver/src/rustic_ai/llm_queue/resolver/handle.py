from __future__ import annotations

import math
import time
from typing import cast

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.job import JobState as JobState
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from .call.answer_reader import AnswerReader, CompletionReader, OutcomeReader
from .call.client_errors import client_errors
from .call.open_stream import OpenStream, open_known
from .call.submission import overdue
from .client.errors import WaitTimeout
from .client.port import EnginePort
from .engines import engine_for
from .exceptions import JobNotFound
from .job_wait import JobWait
from .response import QueueChatCompletionResponse
from .stream import AsyncCompletionStream, CompletionStream, StreamOptions
from .streams.answer import OnRestart


class JobHandle[A = QueueChatCompletionResponse]:
    """A job on the queue: ask how it stands, wait for its answer, cancel it.

    Every method raises `QueueUnavailable` when Redis cannot be reached, and `JobNotFound` when no
    job of this agent has the id (any more).
    """

    def __init__(
        self,
        job_id: str,
        owner: Owner,
        settings: QueueSettings,
        *,
        ends_at: float | None = None,
        answer_reader: OutcomeReader[A] | None = None,
    ) -> None:
        """
        Args:
            ends_at: the deadline on this process's monotonic clock, where it is known.
            answer_reader: how to read the answer, where the submitter said so.
        """
        self._id = job_id
        self._owner = owner
        self._settings = settings
        self._ends_at = ends_at
        self._answer_reader = answer_reader or cast("OutcomeReader[A]", AnswerReader())

    @property
    def id(self) -> str:
        """The job's id, for `QueueLLM.job` in this or another process."""
        return self._id

    def __repr__(self) -> str:
        return f"JobHandle({self._id!r})"

    def status(self) -> JobState:
        """How far the job has come."""
        engine = engine_for(self._settings)
        return engine.call(lambda: self._status(engine))

    async def async_status(self) -> JobState:
        """`status`, from an event loop."""
        engine = engine_for(self._settings)
        return await engine.acall(lambda: self._status(engine))

    def waits_for(self) -> JobWait | None:
        """The limit that the job waits for now, None where it waits for none."""
        engine = engine_for(self._settings)
        return engine.call(lambda: self._waits_for(engine))

    async def async_waits_for(self) -> JobWait | None:
        """`waits_for`, from an event loop."""
        engine = engine_for(self._settings)
        return await engine.acall(lambda: self._waits_for(engine))

    def result(self, timeout_s: float | None = None) -> A:
        """Wait for the answer.

        Args:
            timeout_s: seconds to wait; None waits until the job's own deadline.

        Raises what `QueueLLM.completion` raises; `TimeoutError` after `timeout_s`, when the job
        goes on and `result` may be called again.
        """
        engine = engine_for(self._settings)
        return engine.call(lambda: self.answer(engine, timeout_s))

    async def async_result(self, timeout_s: float | None = None) -> A:
        """`result`, from an event loop. Cancelling the wait does not cancel the job."""
        engine = engine_for(self._settings)
        return await engine.acall(lambda: self.answer(engine, timeout_s))

    def cancel(self) -> bool:
        """Cancel the job. False when it had ended before."""
        engine = engine_for(self._settings)
        return engine.call(lambda: self._cancel(engine))

    async def async_cancel(self) -> bool:
        """`cancel`, from an event loop."""
        engine = engine_for(self._settings)
        return await engine.acall(lambda: self._cancel(engine))

    def stream(
        self,
        *,
        from_start: bool = True,
        on_restart: OnRestart | None = None,
        refuse_restarts: bool = False,
    ) -> CompletionStream:
        """Follow the job, from this or any process, or replay it after its end.

        A job that was not submitted as a stream comes in one chunk, at its end.

        Args:
            from_start: False leaves out what came before; `text` has it all the same.
            on_restart: called when the text begins anew.
            refuse_restarts: raise `StreamRestarted` instead.

        Raises `StreamExpired`, with the answer where it is kept still, once the stream's TTL is over.
        Leaving the stream does not cancel the job.
        """
        engine = engine_for(self._settings)
        options = StreamOptions(
            on_restart=on_restart, refuse_restarts=refuse_restarts, skip_past=not from_start
        )
        return CompletionStream(engine, lambda: self._open_stream(engine), options)

    def async_stream(
        self,
        *,
        from_start: bool = True,
        on_restart: OnRestart | None = None,
        refuse_restarts: bool = False,
    ) -> AsyncCompletionStream:
        """`stream`, from an event loop."""
        engine = engine_for(self._settings)
        options = StreamOptions(
            on_restart=on_restart, refuse_restarts=refuse_restarts, skip_past=not from_start
        )
        return AsyncCompletionStream(engine, lambda: self._open_stream(engine), options)

    async def _open_stream(self, engine: EnginePort) -> OpenStream:
        record = await self._record(engine)
        # Of a job that has ended everything is there: its reader has all the time it wants.
        wait_s = math.inf if record.state.final else await self._longest_wait_s(engine, record)
        return await open_known(
            engine,
            record,
            # Only a completion is streamed.
            cast("CompletionReader", self._answer_reader),
            ends_at=time.monotonic() + wait_s,
            join_s=self._settings.redis_timeout.total_seconds(),
        )

    async def _status(self, engine: EnginePort) -> JobState:
        return (await self._record(engine)).state

    async def _waits_for(self, engine: EnginePort) -> JobWait | None:
        record = await self._record(engine)
        if record.waits_for is None or record.state is not JobState.QUEUED:
            return None
        starts_in_s: float | None = None
        if record.starts_at_ms:
            with client_errors(job_id=self._id):
                left_s = await engine.left_s(record)
            starts_in_s = max(left_s - (record.deadline_ms - record.starts_at_ms) / 1000, 0.0)
        return JobWait(record.waits_for.partition(":")[0], record.ahead, starts_in_s)

    async def answer(self, engine: EnginePort, timeout_s: float | None = None) -> A:
        """`result`, on the engine's loop."""
        record = await self._record(engine)
        if record.state.final:
            outcome = await self._ended(engine)
        else:
            outcome = await self._wait(engine, record, timeout_s)
        return self._answer_reader.read(outcome, self._id, record.job.model)

    async def _ended(self, engine: EnginePort) -> Outcome:
        with client_errors(job_id=self._id):
            outcome = await engine.stored_outcome(self._id, self._owner)
        if outcome is None:
            raise JobNotFound("The job's result is no longer kept.", job_id=self._id)
        return outcome

    async def _wait(self, engine: EnginePort, record: JobRecord, timeout_s: float | None) -> Outcome:
        longest_s = await self._longest_wait_s(engine, record)
        wait_s = longest_s if timeout_s is None else min(timeout_s, longest_s)
        try:
            with client_errors(job_id=self._id):
                return await engine.outcome(
                    self._id, self._owner, deadline_s=max(0.0, wait_s), epoch=record.ending_epoch
                )
        except WaitTimeout:
            if wait_s < longest_s:
                raise TimeoutError(f"job {self._id} has not ended after {wait_s:g} s; it goes on") from None
            raise await overdue(engine, record.job, record.job.timeout_ms / 1000) from None

    async def _cancel(self, engine: EnginePort) -> bool:
        await self._record(engine)
        with client_errors(job_id=self._id):
            verdict = await engine.cancel(self._id, self._owner)
        return verdict in ("cancelled", "cancelling")

    async def _record(self, engine: EnginePort) -> JobRecord:
        with client_errors(job_id=self._id):
            record = await engine.record(self._id)
        # The job of another agent is reported like one that does not exist.
        if record is None or record.job.owner != self._owner:
            raise JobNotFound(job_id=self._id)
        return record

    async def _longest_wait_s(self, engine: EnginePort, record: JobRecord) -> float:
        if self._ends_at is None:
            with client_errors(job_id=self._id):
                # The record's deadline is on Redis' clock, which need not agree with ours.
                self._ends_at = time.monotonic() + await engine.left_s(record)
        return self._ends_at - time.monotonic()
