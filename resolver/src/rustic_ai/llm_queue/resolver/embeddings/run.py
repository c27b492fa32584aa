from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.policy.embedding_limits import EmbeddingLimits, limits_of
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..call.request import check_call, endpoint_of
from ..call.submission import Submission
from ..call.texts import checked_texts
from ..call.vector_reader import EmbeddingAnswer, VectorReader
from ..client.port import EnginePort
from ..exceptions import JobTimeout, QueueError, ResponseProcessingError
from ..queue_properties import DEFAULT_MAX_RETRIES
from .properties import EmbeddingProperties
from .splitting import split

#: Jobs of one call that are under way at once.
_MOST_IN_FLIGHT = 16

#: How a worker's error names a text of its job.
_PLACE = re.compile(r"input\[(\d{1,9})\]")

Vectors = list[list[float]]


class EmbeddingRun:
    """One call of `embed`: its texts in as many jobs as it takes, and their vectors in the texts' order."""

    def __init__(
        self, properties: EmbeddingProperties, settings: QueueSettings, owner: Owner, texts: Sequence[str]
    ) -> None:
        """Raises `InvalidRequest` naming the text, `LimitExceeded`, `EndpointNotAllowed`."""
        self._properties, self._settings, self._owner = properties, settings, owner
        self._texts = checked_texts(texts, field="text")
        # Equal texts have equal vectors, and are paid for once.
        self._parts = split(list(dict.fromkeys(self._texts)), _limits(properties))
        self._calls = [self._call(part) for part in self._parts]
        for call in self._calls:
            check_call(call, settings)

    async def vectors(self, engine: EnginePort) -> Vectors:
        """Submit the jobs, and wait for all their vectors until the deadline. Runs on the engine's loop.

        The first job that fails ends the call, and the others are cancelled.
        """
        ends_at = time.monotonic() + self._properties.timeout_s(self._settings)
        room = asyncio.Semaphore(_MOST_IN_FLIGHT)
        tasks = [asyncio.create_task(self._part(call, engine, ends_at, room)) for call in self._calls]
        try:
            answers = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        by_text = {
            text: vector
            for part, answer in zip(self._parts, answers, strict=True)
            for text, vector in zip(part, answer.vectors, strict=True)
        }
        lengths = {len(vector) for vector in by_text.values()}
        if len(lengths) > 1:
            raise ResponseProcessingError(
                f"The vectors of one call have different lengths ({sorted(lengths)}): the model's "
                "deployments differ; give `dimensions`, or correct the workers' LiteLLM config.",
                model=self._properties.model,
            )
        # A list of its own for each text, also where two are equal.
        return [list(by_text[text]) for text in self._texts]

    async def _part(
        self, call: EmbeddingCall, engine: EnginePort, ends_at: float, room: asyncio.Semaphore
    ) -> EmbeddingAnswer:
        async with room:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                whole_s = self._properties.timeout_s(self._settings)
                raise JobTimeout(f"Not all texts were embedded within the timeout of {whole_s:g} s.")
            submission = Submission.of_call(
                call,
                self._settings,
                self._owner,
                timeout_s=left_s,
                answer_reader=VectorReader.of_call(call),
                priority=self._properties.priority,
                on_worker_loss=self._properties.on_worker_loss,
            )
            try:
                return await submission.answer(engine)
            except QueueError as error:
                self._name_text(error, call)
                raise

    def _name_text(self, error: QueueError, call: EmbeddingCall) -> None:
        """A worker names a text by its place in the job: here it is the place in the caller's list."""
        named = _PLACE.match(error.message)
        if named is not None and int(named[1]) < len(call.texts):
            place = f"text[{self._texts.index(call.texts[int(named[1])])}]"
            error.message = place + error.message[named.end() :]
            error.args = (error.message,)
            error.param = place

    def _call(self, texts: Sequence[str]) -> EmbeddingCall:
        properties = self._properties
        asked = {
            "dimensions": properties.dimensions,
            "input_type": properties.input_type,
            "truncate": properties.truncate or None,
        }
        retries = properties.max_retries
        return EmbeddingCall(
            model=properties.model,
            fallback_models=properties.fallback_models,
            texts=tuple(texts),
            params={name: value for name, value in asked.items() if value is not None},
            endpoint=endpoint_of(properties),
            max_retries=DEFAULT_MAX_RETRIES if retries is None else retries,
            reuse=properties.reuse,
            max_cost_usd=properties.max_cost_usd,
            budget_run=properties.budget_run,
        )


def _limits(properties: EmbeddingProperties) -> EmbeddingLimits:
    limits = limits_of(properties.model)
    most = properties.max_batch_size
    return limits if most is None else EmbeddingLimits(texts=most, tokens=limits.tokens)
