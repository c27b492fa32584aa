from __future__ import annotations

from dataclasses import dataclass

from ..provider.cost import Usage, cost_usd
from .log import AttemptLog

_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Spent:
    """What a job has used, answered or not."""

    usage: Usage
    cost_usd: float | None = None
    #: Reckoned from the length of the texts.
    estimated: bool = False


def spent_without_answer(log: AttemptLog, *, prompt_tokens: int) -> Spent:
    """What the latest attempt has used, although it brought no answer.

    A provider bills for the words it has said, and counts them at the end only, where a stream that
    was cut off does not come.

    Args:
        prompt_tokens: a guess, for a provider that has not said.
    """
    if not log.streamed_bytes:
        return Spent(log.usage)
    usage = Usage(
        prompt_tokens=log.usage.prompt_tokens or prompt_tokens,
        completion_tokens=max(log.usage.completion_tokens or 0, -(-log.streamed_bytes // _BYTES_PER_TOKEN)),
        cached_tokens=log.usage.cached_tokens,
        reasoning_tokens=log.usage.reasoning_tokens,
    )
    return Spent(usage, _cost_usd(log, usage), estimated=True)


def _cost_usd(log: AttemptLog, usage: Usage) -> float | None:
    target = log.target
    if target is None:
        return None
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return cost_usd(str(target.options.get("model", target.model)), target.provider, counts, target.prices)
