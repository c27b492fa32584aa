from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from rustic_ai.core.guild.agent_ext.depends.llm import LLM
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from rustic_ai.llm_queue.tasks.job import check_job_id
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from .batches.batch import Batch, KeyOf, OnProgress, Requests
from .batches.item import BatchItem
from .batches.run import BatchRun
from .call.open_stream import open_new
from .call.submission import Submission
from .client.port import EnginePort
from .engines import engine_for
from .handle import JobHandle
from .properties import Properties
from .response import QueueChatCompletionResponse
from .stream import AsyncCompletionStream, CompletionStream, Opening, StreamOptions
from .streams.answer import OnRestart

#: Enough to keep a provider busy, few enough not to run into its limits at once.
DEFAULT_IN_FLIGHT = 16


class QueueLLM(LLM):
    """An LLM whose completions are jobs on a queue, made by LiteLLM workers.

    Safe to share between threads and event loops, and after a fork. What it raises is a
    `QueueError`: an `openai` exception and core's `APIError` in one.
    """

    def __init__(self, properties: Properties, settings: QueueSettings, owner: Owner) -> None:
        self._properties = properties
        self._settings = settings
        self._owner = owner

    def completion(
        self, prompt: ChatCompletionRequest, model: str | None = None
    ) -> QueueChatCompletionResponse:
        """Wait for the answer, at most for the call's timeout; past it the job is cancelled.

        Args:
            model: in place of the properties' model.

        Raises `InvalidRequest` before anything is queued; `JobTimeout`, `QueueUnavailable`, or the
        provider's error as a `QueueError`.
        """
        submission, engine = self._submission(prompt, model), self._engine()
        return engine.call(lambda: submission.answer(engine))

    async def async_completion(
        self, prompt: ChatCompletionRequest, model: str | None = None
    ) -> QueueChatCompletionResponse:
        """`completion`, from an event loop. Cancelling the wait cancels the job."""
        submission, engine = self._submission(prompt, model), self._engine()
        return await engine.acall(lambda: submission.answer(engine))

    def stream(
        self,
        prompt: ChatCompletionRequest,
        model: str | None = None,
        *,
        detach: bool = False,
        on_restart: OnRestart | None = None,
        refuse_restarts: bool = False,
    ) -> CompletionStream:
        """The completion as it comes: `with llm.stream(prompt) as stream: for chunk in stream: ...`.

        Args:
            model: in place of the properties' model.
            detach: leaving the context before the end lets the job go on, instead of cancelling it.
            on_restart: called when the text begins anew, after a retry, a fallback or a lost worker.
            refuse_restarts: raise `StreamRestarted` instead.

        Raises `InvalidRequest` before anything is queued.
        """
        submission, engine = self._submission(prompt, model, stream=True), self._engine()
        options = StreamOptions(detach=detach, on_restart=on_restart, refuse_restarts=refuse_restarts)
        return CompletionStream(engine, self._opening(submission, engine, detach), options)

    def async_stream(
        self,
        prompt: ChatCompletionRequest,
        model: str | None = None,
        *,
        detach: bool = False,
        on_restart: OnRestart | None = None,
        refuse_restarts: bool = False,
    ) -> AsyncCompletionStream:
        """`stream`, from an event loop: `async with ... as stream: async for chunk in stream: ...`."""
        submission, engine = self._submission(prompt, model, stream=True), self._engine()
        options = StreamOptions(detach=detach, on_restart=on_restart, refuse_restarts=refuse_restarts)
        return AsyncCompletionStream(engine, self._opening(submission, engine, detach), options)

    def submit(
        self,
        prompt: ChatCompletionRequest,
        model: str | None = None,
        *,
        idempotency_key: str | None = None,
        stream: bool = False,
    ) -> JobHandle:
        """Queue the request and return at once.

        Args:
            stream: have the answer streamed, for the handle's `stream` here or in other processes.
            idempotency_key: makes a repeated submit the same job. Raises `IdempotencyConflict` when
                it came with another request before.
        """
        submission, engine = self._submission(prompt, model, stream=stream), self._engine()
        ends_at = time.monotonic() + submission.timeout_s
        job_id = engine.call(lambda: submission.submit(engine, idempotency_key))
        return self._handle(submission, job_id, ends_at)

    async def async_submit(
        self,
        prompt: ChatCompletionRequest,
        model: str | None = None,
        *,
        idempotency_key: str | None = None,
        stream: bool = False,
    ) -> JobHandle:
        """`submit`, from an event loop."""
        submission, engine = self._submission(prompt, model, stream=stream), self._engine()
        ends_at = time.monotonic() + submission.timeout_s
        job_id = await engine.acall(lambda: submission.submit(engine, idempotency_key))
        return self._handle(submission, job_id, ends_at)

    def batch(
        self,
        requests: Iterable[ChatCompletionRequest],
        model: str | None = None,
        *,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        as_completed: bool = False,
        idempotency_key: str | KeyOf | None = None,
        on_progress: OnProgress | None = None,
    ) -> Generator[BatchItem]:
        """Carry many requests out: an iterator of what became of each, an error included.

        Requests are taken one by one as there is room, so a generator may make them. Leaving the
        iterator ends the batch: its jobs are cancelled, but for those with an idempotency key.

        Args:
            model: in place of the properties' model.
            max_in_flight: requests on their way at a time.
            as_completed: yield items as they end, not in the order of their requests.
            idempotency_key: lets a later run go on where this one stopped, within the settings'
                `idempotency_ttl`: what was answered is not asked again, what failed is. A text, to
                which each item's place is added, or a function of place and request.
            on_progress: called after each item; a `ProgressBar` is one.

        Raises `ValueError` for a `max_in_flight` below 1; an item's error is in the item.
        """
        return self._batch(requests, model, max_in_flight, as_completed, idempotency_key, on_progress).items()

    def async_batch(
        self,
        requests: Iterable[ChatCompletionRequest] | AsyncIterable[ChatCompletionRequest],
        model: str | None = None,
        *,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        as_completed: bool = False,
        idempotency_key: str | KeyOf | None = None,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[BatchItem]:
        """`batch`, from an event loop: `async for item in llm.async_batch(...)`."""
        batch = self._batch(requests, model, max_in_flight, as_completed, idempotency_key, on_progress)
        return batch.async_items()

    def job(self, job_id: str) -> JobHandle:
        """A job of this agent's by its id, submitted here or elsewhere. Raises `ValueError`."""
        return JobHandle(check_job_id(job_id), self._owner, self._settings)

    @property
    def model(self) -> str:
        """The properties' model."""
        return self._properties.model

    def get_config(self) -> dict[str, Any]:
        """The properties, without secrets."""
        return self._properties.public()

    def __repr__(self) -> str:
        return f"QueueLLM(model={self.model!r}, owner={str(self._owner)!r})"

    def _submission(
        self, prompt: ChatCompletionRequest, model: str | None, *, stream: bool = False
    ) -> Submission:
        return Submission.of_prompt(
            self._properties, self._settings, self._owner, prompt, model, stream=stream
        )

    def _batch(
        self,
        requests: Requests,
        model: str | None,
        max_in_flight: int,
        as_completed: bool,
        key: str | KeyOf | None,
        on_progress: OnProgress | None,
    ) -> Batch[ChatCompletionRequest]:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: {max_in_flight} is less than 1")
        engine = self._engine()
        return Batch(
            engine,
            BatchRun(engine, self._settings),
            lambda request: self._submission(request, model),
            requests,
            max_in_flight=max_in_flight,
            key_of=(lambda index, _: f"{key}:{index}") if isinstance(key, str) else key,
            as_completed=as_completed,
            on_progress=on_progress,
        )

    def _opening(self, submission: Submission, engine: EnginePort, detached: bool) -> Opening:
        join_s = self._settings.redis_timeout.total_seconds()
        return lambda: open_new(engine, submission, join_s=join_s, detached=detached)

    def _engine(self) -> EnginePort:
        return engine_for(self._settings)

    def _handle(self, submission: Submission, job_id: str, ends_at: float) -> JobHandle:
        # An idempotency key may have led to an older job, with a deadline of its own.
        mine = job_id == submission.job.id
        return JobHandle(
            job_id,
            self._owner,
            self._settings,
            ends_at=ends_at if mine else None,
            answer_reader=submission.answer_reader,
        )
