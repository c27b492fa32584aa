from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.outcome import Account, Answered
from rustic_ai.llm_queue.tasks.vectors import floats_of, pack_vectors

from .reply import WORKER

#: The vector of a text.
VectorOf = Callable[[str], Sequence[float]]
_DIMENSIONS = 8
_LARGEST_INT16 = 32_768


def derived_vector(text: str, dimensions: int = _DIMENSIONS) -> list[float]:
    """A vector that is a text's own: the same text has the same one, and another text another."""
    seed = array("h", hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return [seed[at % len(seed)] / _LARGEST_INT16 for at in range(dimensions)]


def embedded(call: EmbeddingCall, vector_of: VectorOf | None) -> Answered:
    """The outcome of an answered call for embeddings."""
    dimensions = call.params.get("dimensions") or _DIMENSIONS
    vectors = [
        floats_of(derived_vector(text, dimensions) if vector_of is None else vector_of(text))
        for text in call.texts
    ]
    attempt = AttemptRecord(number=1, epoch=1, model=call.model, status="ok", run_time_s=0.0)
    return Answered(
        account=Account(attempts=(attempt,), worker=WORKER, prompt_tokens=call.estimated_tokens),
        model=call.model,
        response={"model": call.model, **pack_vectors(vectors)},
    )
