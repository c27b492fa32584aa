"""Test a guild with `QueueLLMResolver` in memory: no Redis, no worker, no provider.

    from rustic_ai.llm_queue.resolver.testing import InMemoryQueue

    def test_my_guild():
        with InMemoryQueue() as queue:
            queue.answer("Paris")
            queue.fail(ErrorKind.RATE_LIMIT, "slow down")
            guild = GuildBuilder.from_yaml_file("guild.yaml").launch("my-org")
            ...
            assert queue.calls[0].params["messages"][-1]["content"] == "Capital of France?"

The guild's specification stays as it is. What is in memory is the queue alone: properties, request
and response take the way they take in production.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..tasks.attempt import AttemptRecord
from ..tasks.error_kind import ErrorKind
from ..tasks.errors import ErrorEnvelope
from ..tasks.job import Job, JobRecord, JobState, open_call
from ..tasks.outcome import Account, Answered, Cancelled, Failed, Outcome
from ..tasks.owner import Owner
from ..tasks.request import CompletionCall
from ..tasks.result import outcome_state
from ..tasks.settings import QueueSettings
from .background_loop import BackgroundLoop
from .engine_port import EnginePort, stand_in
from .scripted_source import ScriptedSource
from .stream_source import StreamSource

if TYPE_CHECKING:
    from ..tasks.ledger import CancelVerdict

WORKER = "in-memory"
#: What is done with a call: its outcome, or None to leave it waiting until its deadline.
Step = Callable[[CompletionCall], Outcome | None]


class InMemoryQueue:
    """A queue that answers by a script. As a context manager, it serves every call of this process.

    The steps are taken in order, one a call. A call for which no step is left gets the text given
    as `otherwise`, or fails with an `InternalServerError` that says so.

    Attributes:
        calls: the calls submitted so far, in order.
        jobs: their jobs.
        cancelled: the ids of the jobs that were cancelled while they waited.
    """

    def __init__(self, *, otherwise: str | None = None) -> None:
        self.calls: list[CompletionCall] = []
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self._otherwise = otherwise
        self._script: deque[Step] = deque()
        self._runs: dict[str, _Run] = {}
        self._keys: dict[tuple[Owner, str], str] = {}
        self._loop: BackgroundLoop | None = None
        self._previous: EnginePort | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        self._loop = BackgroundLoop("llm-queue-in-memory")
        self._previous = stand_in(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stand_in(self._previous)
        if self._loop is not None:
            self._loop.stop()

    def answer(
        self,
        content: str | None = None,
        *,
        tool_calls: Mapping[str, Mapping[str, Any]] | None = None,
        finish_reason: str | None = None,
        usage: Mapping[str, Any] | None = None,
        cost_usd: float | None = None,
    ) -> Self:
        """Script an answer.

        Args:
            tool_calls: the arguments by the tool's name.
            finish_reason: None for `tool_calls` or `stop`, whichever fits.
        """
        body = _choice(content, tool_calls, finish_reason)
        return self.reply(lambda call: _answered(call, body, usage, cost_usd))

    def fail(
        self,
        kind: ErrorKind,
        message: str = "",
        *,
        provider_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> Self:
        """Script a failure, as the worker reports it when no retry and no fallback is left."""
        return self.reply(
            lambda call: _failed(
                call, kind, message, provider_status=provider_status, retry_after_s=retry_after_s
            )
        )

    def hang(self) -> Self:
        """Script a call that no worker ever takes."""
        return self.reply(lambda call: None)

    def reply(self, step: Step) -> Self:
        """Script an outcome that depends on the call."""
        self._script.append(step)
        return self

    # The engine's side.

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        return self._running().submit(_as_coroutine(coro_fn)).result()

    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        return await asyncio.wrap_future(self._running().submit(_as_coroutine(coro_fn)))

    async def submit(self, job: Job, idempotency_key: str | None = None) -> str:
        if idempotency_key is not None:
            standing = self._keys.setdefault((job.owner, idempotency_key), job.id)
            if standing != job.id:
                return self._check_same(standing, job)
        call = open_call(job, QueueSettings().sealer())
        self.jobs.append(job)
        self.calls.append(call)
        run = self._runs[job.id] = _Run(job)
        step = self._script.popleft() if self._script else self._unscripted
        run.end(step(call))
        return job.id

    async def outcome(
        self, job_id: str, owner: Owner, *, deadline_s: float | None, job: Job | None = None
    ) -> Outcome:
        from .engine import WaitTimeout

        try:
            async with asyncio.timeout(deadline_s):
                return await self._runs[job_id].outcome()
        except TimeoutError:
            raise WaitTimeout(job_id) from None

    def stream(self, job: Job, *, ended: bool = False, keep_until: float | None = None) -> StreamSource:
        return ScriptedSource(self, job)

    async def stored_outcome(self, job_id: str, owner: Owner) -> Outcome | None:
        run = self._runs.get(job_id)
        return run.ended if run else None

    async def cancel(self, job_id: str, owner: Owner, *, by: str = "caller") -> CancelVerdict:
        run = self._runs.get(job_id)
        if run is None:
            return "missing"
        if run.ended is not None:
            return "ended"
        self.cancelled.append(job_id)
        run.end(Cancelled(account=Account(), by=by))
        return "cancelled"

    def abandon(self, job_id: str, owner: Owner) -> None:
        run = self._runs.get(job_id)
        if run is not None and run.ended is None:
            self.cancelled.append(job_id)
            run.end(Cancelled(account=Account()))

    async def left_s(self, record: JobRecord) -> float:
        return record.deadline_ms / 1000 - time.time()

    async def record(self, job_id: str) -> JobRecord | None:
        run = self._runs.get(job_id)
        return run.record() if run else None

    def _running(self) -> BackgroundLoop:
        if self._loop is None:
            raise RuntimeError("the InMemoryQueue is not entered: use it in a `with` statement")
        if self._pid != os.getpid():
            raise RuntimeError("the InMemoryQueue serves one process: give the guild the in-process engine")
        return self._loop

    def _check_same(self, standing: str, job: Job) -> str:
        from .engine import SubmitConflict

        if self._runs[standing].job.fingerprints != job.fingerprints:
            raise SubmitConflict(f"the idempotency key stands for another request, of job {standing}")
        return standing

    def _unscripted(self, call: CompletionCall) -> Outcome:
        if self._otherwise is not None:
            return _answered(call, _choice(self._otherwise, None, None), None, None)
        return _failed(call, ErrorKind.INTERNAL_SERVER, "The InMemoryQueue has no answer left for this call.")


class _Run:
    """One job's stay in memory."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ended: Outcome | None = None
        self._done = asyncio.Event()
        self._created_ms = time.time_ns() // 1_000_000

    def end(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self.ended = outcome
            self._done.set()

    async def outcome(self) -> Outcome:
        await self._done.wait()
        assert self.ended is not None
        return self.ended

    def record(self) -> JobRecord:
        return JobRecord(
            job=self.job,
            state=JobState.QUEUED if self.ended is None else outcome_state(self.ended),
            created_ms=self._created_ms,
            deadline_ms=self._created_ms + self.job.timeout_ms,
            attempts=() if self.ended is None else self.ended.account.attempts,
        )


def _choice(
    content: str | None, tool_calls: Mapping[str, Mapping[str, Any]] | None, finish_reason: str | None
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(args)},
            }
            for at, (name, args) in enumerate(tool_calls.items())
        ]
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    return {"index": 0, "finish_reason": reason, "message": message}


def _answered(
    call: CompletionCall,
    choice: dict[str, Any],
    usage: Mapping[str, Any] | None,
    cost_usd: float | None,
) -> Answered:
    counts = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, **(usage or {})}
    response = {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [choice],
        "usage": counts,
    }
    account = Account(
        attempts=(AttemptRecord(number=1, epoch=1, model=call.model, status="ok", provider_status=200),),
        worker=WORKER,
        cost_usd=cost_usd,
        prompt_tokens=counts["prompt_tokens"],
        completion_tokens=counts["completion_tokens"],
    )
    return Answered(account=account, model=call.model, response=response)


def _failed(
    call: CompletionCall,
    kind: ErrorKind,
    message: str,
    *,
    provider_status: int | None = None,
    retry_after_s: float | None = None,
) -> Failed:
    attempt = AttemptRecord(
        number=1, epoch=1, model=call.model, status="failed", error=kind, provider_status=provider_status
    )
    error = ErrorEnvelope(
        kind=kind,
        message=message,
        model=call.model,
        provider_status=provider_status,
        retry_after_s=retry_after_s,
    )
    return Failed(account=Account(attempts=(attempt,), worker=WORKER), error=error)


async def _as_coroutine[T](coro_fn: Callable[[], Awaitable[T]]) -> T:
    return await coro_fn()


__all__ = ["InMemoryQueue", "Step"]
