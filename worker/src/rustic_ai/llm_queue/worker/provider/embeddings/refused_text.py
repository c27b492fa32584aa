from __future__ import annotations

from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.usage import Usage

from .shares import Answer

_MOST_CHARACTERS = 4_000


class RefusedText(Exception):
    """The provider refused a job because of one of its texts; its cause is what the provider said."""

    def __init__(self, index: int, error: Exception, found: Answer | None) -> None:
        """Args:
        index: the place of the text among those that were sent.
        error: what the provider said of this text alone.
        found: the vectors of the texts before it, and what they cost; None where it is the first.
        """
        super().__init__(f"text {index} was refused")
        self.index, self.error, self.found = index, error, found

    @property
    def usage(self) -> Usage:
        """What the job has used, although it brings no answer."""
        if self.found is None:
            return Usage()
        tokens = self.found.vectors.prompt_tokens
        return Usage(
            prompt_tokens=tokens,
            completion_tokens=None if tokens is None else 0,
            cost_usd=self.found.cost_usd,
        )

    def named(self, failure: ErrorEnvelope) -> ErrorEnvelope:
        """The error with the place of the text in it."""
        place = f"input[{self.index}]"
        message = f"{place}: {failure.message}"[:_MOST_CHARACTERS]
        return failure.model_copy(update={"message": message, "param": place})
