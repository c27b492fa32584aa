from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.ledger.ledger import Claim
from rustic_ai.llm_queue.tasks.outcome import Outcome

if TYPE_CHECKING:
    # They import LiteLLM.
    from ..attempts.attempts import ChunkSink
    from ..attempts.log import AttemptLog


class JobRun:
    """One claim of a job, from taking it up to its end here: what there is to tell of it."""

    def __init__(self, job_id: str, claim: Claim, log: AttemptLog, *, worker: str) -> None:
        self.job_id = job_id
        self.record = claim.record
        self.log = log
        self.worker = worker
        #: Unix time at which it was taken up, in nanoseconds.
        self.began_ns = time.time_ns()
        self._began_s = time.monotonic()
        created_ms = claim.record.created_ms if claim.record else claim.now_ms
        self._waited_s = max(claim.now_ms - created_ms, 0) / 1000
        #: The request, once it is opened.
        self.call: CompletionCall | None = None
        #: Seconds between submit and the first chunk that says something, None before or without one.
        self.first_token_s: float | None = None
        #: When that was, in Unix nanoseconds.
        self.first_token_ns: int | None = None
        #: How the job ended; None when it did not end here: handed back, or another worker's by now.
        self.outcome: Outcome | None = None

    @property
    def new_attempts(self) -> tuple[AttemptRecord, ...]:
        """The attempts of which no earlier claim knew."""
        known = {attempt.number for attempt in self.record.attempts} if self.record else set()
        return tuple(attempt for attempt in self.log.records if attempt.number not in known)

    def timed(self, sink: ChunkSink) -> ChunkSink:
        """`sink`, which notes the first chunk on its way."""
        return _TimedSink(sink, self)

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Take a look at a chunk on its way."""
        if self.first_token_s is None and any(_says_something(choice) for choice in chunk["choices"]):
            self.first_token_s = self._waited_s + time.monotonic() - self._began_s
            self.first_token_ns = time.time_ns()


class _TimedSink:
    def __init__(self, sink: ChunkSink, run: JobRun) -> None:
        self._sink, self._run = sink, run

    async def chunk(self, chunk: dict[str, Any]) -> None:
        self._run.note(chunk)
        await self._sink.chunk(chunk)

    async def restart(self, reason: ErrorKind, model: str) -> None:
        await self._sink.restart(reason, model)


def _says_something(choice: Mapping[str, Any]) -> bool:
    return any(value for name, value in choice["delta"].items() if name != "role")
