from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Outcome
from rustic_ai.llm_queue.tasks.vectors import unpack_vectors

from ..exceptions import ResponseProcessingError
from .failure import to_exception


@dataclass(frozen=True)
class EmbeddingAnswer:
    """What an embedding job brought."""

    #: One for each text of the job, in their order.
    vectors: list[list[float]] = field(repr=False)
    #: The model's name in the provider's own words.
    model: str
    job_id: str
    account: Account

    @property
    def cached_texts(self) -> int:
        """Of how many texts the vectors were kept from earlier calls."""
        return self.account.cached_texts

    @property
    def cost_usd(self) -> float | None:
        """USD by LiteLLM's price map; None when the model has no price there."""
        return self.account.cost_usd


@dataclass(frozen=True)
class VectorReader:
    """Makes vectors of an embedding job's outcome, and lets none pass that does not fit its texts."""

    text_count: int
    #: The length that was asked for; None for the model's own.
    dimensions: int | None = None

    @classmethod
    def of_call(cls, call: EmbeddingCall) -> Self:
        """The one for a call's job."""
        return cls(len(call.texts), call.params.get("dimensions"))

    def read(self, outcome: Outcome, job_id: str, model: str) -> EmbeddingAnswer:
        """The vectors in the order of the texts, or the exception that fits how else the job ended."""
        if not isinstance(outcome, Answered):
            raise to_exception(outcome, job_id=job_id, model=model)
        try:
            vectors = unpack_vectors(outcome.response, count=self.text_count)
            if self.dimensions is not None and len(vectors[0]) != self.dimensions:
                raise ContractViolation(
                    f"the vectors are of {len(vectors[0])} numbers, where {self.dimensions} were asked for"
                )
        except ContractViolation as violation:
            attempts = outcome.account.attempts
            raise ResponseProcessingError(
                f"The answer is not what was asked for: {violation}",
                job_id=job_id,
                model=outcome.model,
                attempts=attempts,
            ) from None
        model = str(outcome.response.get("model") or outcome.model)
        return EmbeddingAnswer(vectors, model, job_id, outcome.account)
