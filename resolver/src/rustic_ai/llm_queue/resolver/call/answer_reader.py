from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError
from rustic_ai.core.guild.agent_ext.depends.llm.models import LLMMessage

from rustic_ai.llm_queue.tasks.contract import field_names
from rustic_ai.llm_queue.tasks.outcome import Answered, Outcome

from ..exceptions import ResponseProcessingError
from ..response import QueueChatCompletionResponse
from .answer_schema import schema_violation
from .failure import to_exception


class OutcomeReader[T](Protocol):
    """Makes what a caller gets of how a job ended; one for each kind of call."""

    def read(self, outcome: Outcome, job_id: str, model: str) -> T:
        """The answer, or the exception that fits how else the job ended."""


#: The one for a chat completion.
type CompletionReader = OutcomeReader[QueueChatCompletionResponse]


@dataclass(frozen=True)
class AnswerReader:
    """What it takes to make a response of an outcome, beside the outcome itself."""

    #: What the response names as its prompt; None where that is not known.
    input_messages: tuple[LLMMessage, ...] | None = None
    #: The JSON schema that the answer is to be held against.
    schema: Mapping[str, Any] | None = None

    def read(self, outcome: Outcome, job_id: str, model: str) -> QueueChatCompletionResponse:
        """The answer, or the exception that fits how else the job ended."""
        if not isinstance(outcome, Answered):
            raise to_exception(outcome, job_id=job_id, model=model)
        try:
            response = QueueChatCompletionResponse.from_outcome(
                outcome, job_id=job_id, input_messages=self.input_messages
            )
        except ValidationError as error:
            complaint = f"The answer is not a chat completion: {field_names(error)}"
            raise _unreadable(complaint, outcome, job_id) from None
        if self.schema is not None and (violation := schema_violation(response, self.schema)):
            raise _unreadable(f"The answer does not follow the schema: {violation}", outcome, job_id)
        return response


def _unreadable(message: str, outcome: Answered, job_id: str) -> Exception:
    attempts = outcome.account.attempts
    return ResponseProcessingError(message, job_id=job_id, model=outcome.model, attempts=attempts)
