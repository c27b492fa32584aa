from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from rustic_ai.llm_queue.tasks.redis_url import is_memory_url

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.job import Job, JobRecord
    from rustic_ai.llm_queue.tasks.ledger.ledger import CancelVerdict
    from rustic_ai.llm_queue.tasks.outcome import Outcome
    from rustic_ai.llm_queue.tasks.owner import Owner
    from rustic_ai.llm_queue.tasks.settings import QueueSettings

    from ..streams.source import StreamSource


class EnginePort(Protocol):
    """What a `QueueLLM` asks of the queue: `Engine` on Redis, or `MemoryEngine` in a test.

    All but `call` and `acall` runs on the engine's own event loop.
    """

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T: ...
    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T: ...
    def expecting(self, job_id: str) -> AbstractContextManager[None]: ...
    async def submit(self, job: Job, idempotency_key: str | None = None) -> str: ...
    async def outcome(
        self, job_id: str, owner: Owner, *, deadline_s: float | None, job: Job | None = None
    ) -> Outcome: ...
    async def stored_outcome(self, job_id: str, owner: Owner) -> Outcome | None: ...
    async def cancel(self, job_id: str, owner: Owner, *, by: str = "caller") -> CancelVerdict: ...
    def abandon(self, job_id: str, owner: Owner) -> None: ...
    def stream(self, job: Job, *, ended: bool = False, keep_until: float | None = None) -> StreamSource: ...
    async def left_s(self, record: JobRecord) -> float: ...
    async def record(self, job_id: str) -> JobRecord | None: ...


_stand_in: EnginePort | None = None


def engine_for(settings: QueueSettings) -> EnginePort:
    """The process's engine for these settings, or the stand-in of a test."""
    if _stand_in is not None:
        return _stand_in
    if is_memory_url(settings.redis_url):
        from ..testing import memory_queue

        return memory_queue(settings.redis_url).engine
    # Here, because it brings redis-py with it, which who only builds a guild does not need.
    from .engine import Engine

    return Engine.shared(settings)


def stand_in(engine: EnginePort | None) -> EnginePort | None:
    """Let `engine` serve every call of this process. Returns the one before it."""
    global _stand_in
    previous, _stand_in = _stand_in, engine
    return previous
