from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.usage import Usage


@dataclass(frozen=True)
class Answer:
    """What a job's winning attempt brought."""

    model: str
    response: dict[str, Any] = field(repr=False)
    attempts: tuple[AttemptRecord, ...]
    usage: Usage


class AttemptsFailed(Exception):
    """No attempt brought an answer, and there will be no more. Its text is free of the provider's words."""

    def __init__(self, envelope: ErrorEnvelope, attempts: tuple[AttemptRecord, ...]) -> None:
        super().__init__(f"{envelope.kind} after {len(attempts)} attempts")
        self.envelope = envelope
        self.attempts = attempts


class DeadlinePassed(Exception):
    """The job's deadline came before an answer."""
