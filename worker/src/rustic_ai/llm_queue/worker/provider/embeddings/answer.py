"""A provider's embeddings, checked before anything is made of them.

A vector at the wrong text's place is worse than none: nobody notices, and an index is spoilt for good. So
vectors are put in order by their own index, and an answer with one too many, too few or of another length
is refused whole.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.tasks.vectors import MOST_DIMENSIONS, floats_of, floats_of_base64

from ..failures.classify import MalformedAnswer


@dataclass(frozen=True)
class Vectors:
    """One vector for each text, in the order of the texts."""

    vectors: tuple[array[float], ...]
    #: The model's name in the provider's own words, where it gave one.
    model: str | None
    #: None where the provider did not count.
    prompt_tokens: int | None


def read_vectors(body: Mapping[str, Any], *, count: int, dimensions: int | None) -> Vectors:
    """The vectors in OpenAI's answer to a call for embeddings.

    Args:
        count: the texts that were sent.
        dimensions: the length that was asked for; None for the model's own.

    Raises `MalformedAnswer`.
    """
    data = body.get("data")
    if not isinstance(data, list) or len(data) != count:
        found = len(data) if isinstance(data, list) else "no"
        raise MalformedAnswer(f"the provider's answer to {count} texts holds {found} vectors")
    vectors = tuple(_vector(item) for item in _in_order(data))
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1:
        raise MalformedAnswer("the provider's vectors are not all of one length")
    if dimensions is not None and lengths != {dimensions}:
        raise MalformedAnswer(
            f"the provider's vectors are of {lengths.pop()} numbers, where {dimensions} were asked for"
        )
    if max(lengths) > MOST_DIMENSIONS:
        raise MalformedAnswer(f"the provider's vectors are of more than {MOST_DIMENSIONS:,} numbers")
    model, usage = body.get("model"), body.get("usage")
    return Vectors(
        vectors,
        model if isinstance(model, str) and model else None,
        Usage.of(usage if isinstance(usage, Mapping) else None).prompt_tokens,
    )


def _in_order(data: Sequence[object]) -> list[Mapping[str, Any]]:
    slots: list[Mapping[str, Any] | None] = [None] * len(data)
    for item in data:
        if not isinstance(item, Mapping):
            raise MalformedAnswer("the provider's answer holds something else than vectors")
        index = item.get("index")
        if type(index) is not int or not 0 <= index < len(slots) or slots[index] is not None:
            raise MalformedAnswer(f"the provider's answer has a vector for text {str(index)[:20]}, or two")
        slots[index] = item
    # As many as there are slots, none twice: none is left empty.
    return [item for item in slots if item is not None]


def _vector(item: Mapping[str, Any]) -> array[float]:
    raw = item.get("embedding")
    try:
        vector = floats_of_base64(raw) if isinstance(raw, str) else floats_of(raw or ())
    except (TypeError, ValueError, OverflowError):
        raise MalformedAnswer("a vector of the provider's is not made of numbers") from None
    # A sum is finite only if all it is made of is: the check of a whole vector without a loop in Python.
    if not vector or not math.isfinite(sum(vector)):
        raise MalformedAnswer("a vector of the provider's is empty, or not made of finite numbers")
    return vector
