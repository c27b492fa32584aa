from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.usage import Usage

from ..admission.gate import NextCall, Refused
from ..provider.targets.credentials import Target


class Journal(Protocol):
    """The ledger, as far as attempts are concerned."""

    async def admit(self, call: NextCall) -> Refused | None:
        """Ask for room for a call. The refusal of a call that may not go, None for one that may."""

    async def note_answer(self, target: Target, usage: Usage, headers: Mapping[str, str]) -> None:
        """Learn from an answered call what such calls take, and what the provider says of its limits."""

    async def note_refusal(self, target: Target, failure: ErrorEnvelope) -> bool:
        """Close what a provider has refused to all workers. False where that is nothing but this call."""

    async def pause(self, delay_s: float, begun: int, ended: Sequence[AttemptRecord]) -> None:
        """Leave the job with the ledger until its next attempt is due: always raises."""

    async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
        """Put attempt `number` on record, before its POST. Raises when this worker lost the job."""


class ChunkSink(Protocol):
    """Where a stream's chunks go."""

    async def chunk(self, chunk: dict[str, Any]) -> None:
        """Take one OpenAI `chat.completion.chunk`. Raises a `ProviderFault` for one too many."""

    async def restart(self, reason: ErrorKind, model: str) -> None:
        """What came so far is void; `model` begins anew."""
