from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.usage import PICO

from ..failures.kinds import MalformedAnswer
from .answer import Vectors


@dataclass(frozen=True)
class Answer:
    """What a provider call brought, and what it cost."""

    vectors: Vectors
    #: None where the model has no price.
    cost_usd: float | None


@dataclass(frozen=True)
class Share:
    """One job's part of a provider's answer."""

    vectors: tuple[array[float], ...]
    #: The model's name in the provider's own words, where it gave one.
    model: str | None
    #: None where the provider did not count.
    prompt_tokens: int | None
    #: None where the model has no price.
    cost_usd: float | None
    #: How many jobs shared the call. A provider counts a call's tokens, not a text's: of several, each has
    #: its part by the length of its texts.
    jobs: int = 1


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers to one job's texts in several calls, as if they were one. Raises `MalformedAnswer`."""
    vectors = [answer.vectors for answer in answers]
    if len({len(vector) for one in vectors for vector in one.vectors}) > 1:
        raise MalformedAnswer("the provider's vectors are not all of one length")
    counts = [one.prompt_tokens for one in vectors]
    costs = [answer.cost_usd for answer in answers]
    return Answer(
        Vectors(
            tuple(vector for one in vectors for vector in one.vectors),
            vectors[0].model,
            _sum(counts),
        ),
        _sum(costs),
    )


def _sum[N: (int, float)](numbers: Sequence[N | None]) -> N | None:
    """None where one of them is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if len(known) == len(numbers) else None


def shares_of(
    answer: Vectors, cost_usd: float | None, *, counts: Sequence[int], weights: Sequence[int]
) -> list[Share]:
    """The answer taken apart. Tokens and picodollars add up to the call's, to the last one.

    Args:
        counts: the texts of each job, in the order of the texts.
        weights: what each job's part of the tokens and the cost goes by.
    """
    tokens: Sequence[int | None] = [None] * len(counts)
    costs: Sequence[float | None] = [None] * len(counts)
    if answer.prompt_tokens is not None:
        tokens = split_exactly(answer.prompt_tokens, weights)
    if cost_usd is not None:
        costs = [pico / 10**PICO for pico in split_exactly(round(cost_usd * 10**PICO), weights)]
    shares, start = [], 0
    for count, own_tokens, own_cost in zip(counts, tokens, costs, strict=True):
        vectors = answer.vectors[start : start + count]
        shares.append(Share(vectors, answer.model, own_tokens, own_cost, jobs=len(counts)))
        start += count
    return shares


def split_exactly(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts as the weights have it; what is left over goes to the largest remainders."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    for at in sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)[: total - sum(parts)]:
        parts[at] += 1
    return parts
