from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.job import Job, JobRecord
    from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict
    from rustic_ai.llm_queue.tasks.outcome import Outcome
    from rustic_ai.llm_queue.tasks.owner import Owner

    from ..streams.source import StreamSource


class EnginePort(Protocol):
    """What a `QueueLLM` asks of the queue.

    All but `call` and `acall` runs on the engine's own event loop.
    """

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T: ...
    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T: ...
    def expecting(self, job_id: str) -> AbstractContextManager[None]: ...
    async def submit(self, job: Job, idempotency_key: str | None = None) -> str: ...
    async def outcome(
        self,
        job_id: str,
        owner: Owner,
        *,
        deadline_s: float | None,
        job: Job | None = None,
        epoch: int = 0,
    ) -> Outcome: ...
    async def stored_outcome(self, job_id: str, owner: Owner) -> Outcome | None: ...
    async def cancel(self, job_id: str, owner: Owner, *, by: str = "caller") -> CancelVerdict: ...
    def abandon(self, job_id: str, owner: Owner) -> None: ...
    def stream(
        self,
        job: Job,
        *,
        ended: bool = False,
        keep_until: float | None = None,
        awaited: bool = False,
        epoch: int = 0,
    ) -> StreamSource: ...
    def detach(self, job_id: str) -> None: ...
    async def check(self) -> None: ...
    async def left_s(self, record: JobRecord) -> float: ...
    async def record(self, job_id: str) -> JobRecord | None: ...
