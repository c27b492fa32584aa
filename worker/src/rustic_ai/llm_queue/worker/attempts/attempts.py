from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Literal

from rustic_ai.llm_queue.tasks.answer_assembly import says_something
from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, ServiceTier
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind, Next
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from ..admission.gate import NextCall, Refused
from ..provider.embeddings.refused_text import RefusedText
from ..provider.failures.classify import PolicyViolation, ProviderFault
from ..provider.failures.kinds import FirstTokenTimeout
from ..provider.provider import Completion, Provider
from ..provider.targets.credentials import Target
from ..provider.wire.exchange import limit_headers
from ..settings import WorkerSettings
from .answer import Answer, AttemptsFailed, DeadlinePassed
from .full_tier import FullTier, is_full
from .log import AttemptLog
from .plan import AttemptPlan
from .ports import ChunkSink, Journal
from .retry import Backoff
from .run_times import RunTimes

logger = get_logger(__name__)

#: A job whose next attempt is due later than this waits for it with the ledger, and in no worker.
_LONGEST_SLEEP_S = 1.0


def attempt_all(
    call: Call,
    *,
    log: AttemptLog,
    deadline_s: float,
    provider: Provider,
    settings: WorkerSettings,
    journal: Journal,
    sink: ChunkSink | None,
    org: str,
    full_tier: FullTier | None = None,
) -> Awaitable[Answer]:
    """Call the models of a job, in their order and as often as it allows, until one answers.

    `deadline_s` is in the time of the running loop; `full_tier` says how long the job waits for a service
    tier that is full. Raises `AttemptsFailed`, `DeadlinePassed`, and
    what the journal and the sink raise. A cancel closes the provider's connection and leaves the
    attempt in `log` as cancelled.
    """
    return _Run(call, log, deadline_s, provider, settings, journal, sink, org, full_tier).answer()


class _Run:
    def __init__(
        self,
        call: Call,
        log: AttemptLog,
        deadline_s: float,
        provider: Provider,
        settings: WorkerSettings,
        journal: Journal,
        sink: ChunkSink | None,
        org: str,
        full_tier: FullTier | None,
    ) -> None:
        self._call = call
        self._org = org
        self._log = log
        self._deadline_s = deadline_s
        self._provider = provider
        self._settings = settings
        self._journal = journal
        self._sink = sink
        self._plan = AttemptPlan(call)
        self._clock = asyncio.get_running_loop().time
        self._full_tier = full_tier or FullTier(RunTimes(), deadline_s - self._clock(), call.max_wait_s)
        self._sent_chunks = False
        #: The next call's; the claim has put its first one on record.
        self._number = log.begun
        base, cap = settings.retry_base, settings.retry_cap
        self._backoff = Backoff(base.total_seconds(), cap.total_seconds())

    async def answer(self) -> Answer:
        self._check_policy()
        self._resume()
        while True:
            model = self._plan.model
            target = await self._target(model)
            if isinstance(target, Target) and (refused := await self._admit(target)):
                self._fall_back(refused)
                continue
            await self._begin()
            result = await self._attempt(model, target)
            if isinstance(result, Completion):
                return Answer(
                    model=self._plan.model,
                    response=result.response,
                    attempts=self._log.records,
                    usage=result.usage,
                )
            await self._prepare_next(result)

    def _check_policy(self) -> None:
        try:
            self._provider.check(self._call)
        except PolicyViolation as error:
            envelope = self._provider.failure(error, self._call, self._call.model, None)
            raise AttemptsFailed(envelope, self._log.records) from None

    def _resume(self) -> None:
        """Go on where earlier claims of this job came to."""
        for number in self._log.missing():
            model = self._plan.model_at(number, self._log.records)
            epoch = max(1, self._log.epoch - 1)
            self._log.add(AttemptRecord(number=number, epoch=epoch, model=model, status="lost"))
        error = self._plan.resume(self._log.records)
        if error is not None:
            raise AttemptsFailed(error, self._log.records)

    async def _target(self, model: str) -> Target | Exception:
        """Where the next call goes, or why it goes nowhere."""
        try:
            async with asyncio.timeout_at(self._deadline_s) as deadline:
                target = await self._provider.target(self._call, model)
        except TimeoutError as error:
            return DeadlinePassed() if deadline.expired() else error
        except Exception as error:
            return error
        if target.service_tier == "flex" and self._full_tier.is_over(
            self._log.records, model, self._deadline_s - self._clock()
        ):
            return replace(target, service_tier="default")
        return target

    async def _admit(self, target: Target) -> Refused | None:
        log = self._log
        return await self._journal.admit(
            NextCall(target, self._number, log.records, may_fall_back=self._plan.has_fallback)
        )

    async def _begin(self) -> None:
        """Put the next call on record."""
        if self._number > self._log.begun:
            await self._journal.begin(self._number, self._log.records)
            self._log.begun = self._number

    async def _attempt(self, model: str, target: Target | Exception) -> Completion | ErrorEnvelope:
        """One attempt, put on record however it ends; a failure is returned."""
        log, started_s = self._log, self._clock()
        if started_s >= self._deadline_s:
            # Redis took so long to put it on record: a call may be sent before its timeout is looked at.
            raise DeadlinePassed
        log.model, log.partial, log.refused = model, None, None
        log.target = target if isinstance(target, Target) else None
        try:
            async with asyncio.timeout_at(self._deadline_s) as deadline:
                try:
                    if isinstance(target, Exception):
                        raise target
                    completion = await self._post(target)
                except (_Foreign, DeadlinePassed, asyncio.CancelledError):
                    raise
                except Exception as error:
                    log.refused = error if isinstance(error, RefusedText) else None
                    failure = self._provider.failure(error, self._call, model, log.target)
                    if failure.kind is ErrorKind.WORKER_FAULT:
                        _log_fault(error)
                else:
                    self._record("ok", started_s)
                    if target.service_tier != "flex":
                        self._full_tier.run_times.learn(model, self._clock() - started_s)
                    await self._journal.note_answer(target, completion.usage, limit_headers())
                    return completion
        except TimeoutError:
            if not deadline.expired():
                raise
            self._record("failed", started_s, error=ErrorKind.TIMEOUT)
            raise DeadlinePassed from None
        except _Foreign as foreign:
            self._record("cancelled", started_s)
            raise foreign.cause from None
        except asyncio.CancelledError:
            if log.call_under_way:
                self._record("cancelled", started_s)
            raise
        finally:
            log.call_under_way = False
        full = log.target.service_tier if log.target and is_full(failure, log.target) else None
        self._record(
            "failed", started_s, error=failure.kind, provider_status=failure.provider_status, full_tier=full
        )
        return failure

    def _post(self, target: Target) -> Awaitable[Completion]:
        self._log.call_under_way = True
        if self._sink is None or not isinstance(self._call, CompletionCall):
            alone = self._log.may_be_its_own_fault(target.model, self._call.max_retries)
            return self._provider.complete(self._call, target, org=self._org, alone=alone)
        return self._post_for_stream(self._call, target, self._sink)

    async def _post_for_stream(self, call: CompletionCall, target: Target, sink: ChunkSink) -> Completion:
        longest_s = call.first_token_timeout_s
        try:
            async with asyncio.timeout(longest_s) as silence, self._provider.stream(call, target) as stream:
                self._log.partial = stream.assembler
                async for chunk in stream.chunks():
                    if silence.when() is not None and says_something(chunk):
                        silence.reschedule(None)
                    await self._emit(sink, chunk)
                return self._provider.completion_of(stream, target)
        except TimeoutError:
            if silence.expired():
                raise FirstTokenTimeout(f"the provider said nothing for {longest_s:g} s") from None
            raise

    async def _emit(self, sink: ChunkSink, chunk: dict[str, Any]) -> None:
        try:
            await sink.chunk(chunk)
        except ProviderFault:
            raise
        except Exception as error:
            # The sink's own troubles are no failure of the provider's.
            raise _Foreign(error) from error
        self._sent_chunks = True

    def _record(
        self,
        status: Literal["ok", "failed", "cancelled"],
        started_s: float,
        *,
        error: ErrorKind | None = None,
        provider_status: int | None = None,
        full_tier: ServiceTier | None = None,
    ) -> None:
        log = self._log
        assert log.model is not None
        log.add(
            AttemptRecord(
                number=log.begun,
                epoch=log.epoch,
                model=log.model,
                status=status,
                error=error,
                provider_status=provider_status,
                run_time_s=round(self._clock() - started_s, 6),
                full_tier=full_tier,
            )
        )

    async def _prepare_next(self, failure: ErrorEnvelope) -> None:
        """Wait for the next attempt's time and put it on record, or raise `AttemptsFailed`."""
        if self._log.records[-1].full_tier is not None:
            await self._wait_for_tier(failure)
            return
        decision = self._plan.failed(
            failure,
            remaining_s=self._deadline_s - self._clock(),
            backoff=self._backoff,
            random=random.random,
        )
        closed = self._log.target is not None and await self._journal.note_refusal(self._log.target, failure)
        if decision.next is Next.GIVE_UP:
            raise AttemptsFailed(failure, self._log.records)
        self._note_pause(decision.delay_s)
        if self._sink is not None and self._sent_chunks:
            await self._sink.restart(failure.kind, self._plan.model)
            self._sent_chunks = False
        self._number = self._log.begun + 1
        if closed and decision.next is Next.RETRY:
            # Its next call waits where all others wait: for the provider's limit to open.
            return
        if decision.delay_s > _LONGEST_SLEEP_S:
            await self._journal.pause(decision.delay_s, self._log.begun, self._log.records)
        if decision.delay_s:
            await asyncio.sleep(decision.delay_s)
        if self._clock() >= self._deadline_s:
            raise DeadlinePassed

    async def _wait_for_tier(self, failure: ErrorEnvelope) -> None:
        """Leave the job with the ledger until its tier may have room, or return for the next call."""
        when_limited, log = self._call.when_limited, self._log
        self._number = log.begun + 1
        if when_limited == "fall_back" and self._plan.fall_back():
            return
        if when_limited == "fail":
            raise AttemptsFailed(failure, log.records)
        pause_s = self._full_tier.pause_s(
            log.records,
            self._plan.model,
            remaining_s=self._deadline_s - self._clock(),
            retry_after_s=failure.retry_after_s,
            random=random.random,
        )
        if pause_s:
            self._note_pause(pause_s)
            await self._journal.pause(pause_s, log.begun, log.records)

    def _fall_back(self, refused: Refused) -> None:
        """Go on with another model: this one's call may not be made. Raises `AttemptsFailed`."""
        if refused.instead is not None and self._plan.step_in(refused.instead):
            return
        if not self._plan.fall_back():
            raise AttemptsFailed(refused.envelope, self._log.records)

    def _note_pause(self, delay_s: float) -> None:
        last = self._log.records[-1]
        self._log.replace_last(last.model_copy(update={"backoff_s": round(delay_s, 6)}))


def _log_fault(error: Exception) -> None:
    # The task bears the name of its job. What the exceptions say is withheld where it may quote a prompt.
    task = asyncio.current_task()
    name = task.get_name() if task is not None else "a job"
    logger.error("The worker itself failed on %s, not the provider", name, exc_info=error)


class _Foreign(Exception):
    """Carries an exception that is not the provider's past the code that judges the provider's."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause
