from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import Call
from rustic_ai.llm_queue.tasks.job import NORMAL, Job, JobState, OnWorkerLoss, Priority, seal_call
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..client.errors import QueueGone, WaitTimeout
from ..client.port import EnginePort
from ..exceptions import InvalidRequest, JobTimeout, QueueError
from ..properties import Properties
from ..response import QueueChatCompletionResponse
from .answer_reader import AnswerReader, OutcomeReader
from .answer_schema import schema_of
from .client_errors import client_errors
from .request import build_call, input_messages, queue_field, timeout_s
from .tracing import SubmitSpan

#: How long a caller whose deadline has passed still waits to learn how far the job came.
_LAST_LOOK_S = 0.5


@dataclass(frozen=True)
class Submission[T = QueueChatCompletionResponse]:
    """A call made into a job, and what its caller needs to read the answer."""

    job: Job
    timeout_s: float
    answer_reader: OutcomeReader[T]
    span: SubmitSpan

    @staticmethod
    def of_prompt(
        properties: Properties,
        settings: QueueSettings,
        owner: Owner,
        prompt: ChatCompletionRequest,
        model: str | None,
        *,
        stream: bool = False,
    ) -> Submission:
        """Raises `InvalidRequest`."""
        call = build_call(properties, prompt, model, settings=settings, stream=stream)
        schema = schema_of(call) if properties.enable_json_schema_validation else None
        return Submission.of_call(
            call,
            settings,
            owner,
            timeout_s=timeout_s(properties, prompt, settings),
            answer_reader=AnswerReader(tuple(input_messages(properties, prompt)), schema),
            priority=queue_field(properties, prompt, "priority"),
            on_worker_loss=properties.on_worker_loss,
            stream_ttl_s=properties.stream_ttl_s,
        )

    @classmethod
    def of_call(
        cls,
        call: Call,
        settings: QueueSettings,
        owner: Owner,
        *,
        timeout_s: float,
        answer_reader: OutcomeReader[T],
        priority: Priority = NORMAL,
        on_worker_loss: OnWorkerLoss = "retry",
        stream_ttl_s: float | None = None,
    ) -> Submission[T]:
        """A call that has been checked, made into a job."""
        if call.stream and stream_ttl_s is None:
            stream_ttl_s = settings.stream_ttl.total_seconds()
        job_id = str(uuid.uuid4())
        span = SubmitSpan.begin(owner, queue=settings.queue, job_id=job_id, model=call.model)
        sealed, fingerprints = seal_call(call, _sealer(settings), job_id=job_id, owner=owner)
        job = Job(
            id=job_id,
            owner=owner,
            kind=call.kind,
            model=call.model,
            queue=settings.queue,
            priority=priority,
            timeout_ms=max(1, round(timeout_s * 1000)),
            on_worker_loss=on_worker_loss,
            stream=call.stream,
            stream_ttl_s=stream_ttl_s if call.stream else None,
            estimated_tokens=call.estimated_tokens,
            text_count=call.text_count,
            traceparent=span.traceparent,
            request=sealed,
            fingerprints=fingerprints,
        )
        return cls(job, timeout_s, answer_reader, span)

    async def answer(self, engine: EnginePort) -> T:
        """Submit, and wait for the answer until the deadline. Runs on the engine's loop.

        A job that its caller no longer waits for is cancelled, so that its answer is not billed.
        """
        ends_at = time.monotonic() + self.timeout_s
        with engine.expecting(self.job.id):
            await self.submit_by(ends_at, engine)
            outcome = await self._outcome(ends_at, engine)
        return self.answer_reader.read(outcome, self.job.id, self.job.model)

    async def _outcome(self, ends_at: float, engine: EnginePort) -> Outcome:
        try:
            left_s = max(0.0, ends_at - time.monotonic())
            with client_errors(job_id=self.job.id, model=self.job.model):
                return await engine.outcome(self.job.id, self.job.owner, deadline_s=left_s, job=self.job)
        except asyncio.CancelledError:
            engine.abandon(self.job.id, self.job.owner)
            raise
        except WaitTimeout:
            error = await overdue(engine, self.job, self.timeout_s)
            engine.abandon(self.job.id, self.job.owner)
            raise error from None

    async def submit_by(self, ends_at: float, engine: EnginePort) -> None:
        """`submit` before the deadline on this process's monotonic clock. Raises `JobTimeout`."""
        try:
            async with asyncio.timeout(max(0.0, ends_at - time.monotonic())):
                await self.submit(engine)
        except TimeoutError:
            message = f"Redis had not taken the job within the timeout of {self.timeout_s:g} s."
            raise JobTimeout(message, job_id=self.job.id, model=self.job.model) from None

    async def submit(self, engine: EnginePort, idempotency_key: str | None = None) -> str:
        """Queue the job. Returns the id of the job that stands for it."""
        name = None if idempotency_key is None else _idempotency_name(self.job.owner, idempotency_key)
        failure: QueueError | None = None
        try:
            # With the job's id, because it may have been written all the same; it is then cancelled.
            with client_errors(job_id=self.job.id, model=self.job.model):
                return await engine.submit(self.job, name)
        except QueueError as error:
            failure = error
            raise
        finally:
            self.span.end(failure)


async def overdue(engine: EnginePort, job: Job, waited_s: float) -> Exception:
    """The `JobTimeout` for a job whose deadline has passed; its message states how far the job came."""
    attempts: tuple[AttemptRecord, ...] = ()
    try:
        async with asyncio.timeout(_LAST_LOOK_S):
            record = await engine.record(job.id)
    except (QueueGone, TimeoutError):
        state = "Redis does not answer, so how far it came is not known"
    else:
        if record is None:
            state = "the queue does not know the job"
        elif record.state is JobState.QUEUED:
            state = f"no worker took it from queue {job.queue!r}"
        else:
            state, attempts = f"worker {record.worker} had it", record.attempts
    message = f"No answer within the timeout of {waited_s:g} s: {state}."
    return JobTimeout(message, job_id=job.id, model=job.model, attempts=attempts)


def _idempotency_name(owner: Owner, key: str) -> str:
    """Where the ledger keeps the caller's key: one agent's is nothing to another's."""
    if not isinstance(key, str) or not key:
        raise InvalidRequest("idempotency_key: give a text that is not empty, or None")
    hashes = (
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        for text in (owner.model_dump_json(), key)
    )
    return keys.idempotency_key(*hashes)


@lru_cache(maxsize=8)
def _sealer(settings: QueueSettings) -> Sealer:
    return settings.sealer()
