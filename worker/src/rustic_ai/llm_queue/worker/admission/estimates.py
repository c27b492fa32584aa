from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.call import Call, CallKind
from rustic_ai.llm_queue.tasks.usage import Usage

_LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
#: Providers whose limits do not count the prompt's tokens that they had in their cache.
NO_CACHED_READS = frozenset({"anthropic"})
#: Of a call that names no limit, before anything is known of its model.
_UNKNOWN_OUTPUT = 1_024
_LEAST_OUTPUT = 64
#: Characters in a token are 4 for English prose; for code, JSON or CJK they are far from that.
_LEAST_RATIO, _MOST_RATIO = 0.5, 3.0
_RATIO_WEIGHT = 0.1
_ANSWERS_KEPT = 200
_ENOUGH_ANSWERS = 20
_MOST_MODELS = 500


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """A call's tokens, before it is made."""

    input: int
    #: The most that it may bring, and what such calls commonly bring.
    output_limit: int
    output_expected: int


class TokenEstimates:
    """Estimates a call's tokens by what earlier calls of its model have taken on this worker."""

    def __init__(self) -> None:
        self._models: dict[str, _Seen] = {}

    def estimate(self, call: Call, model: str, prompt_tokens: int) -> TokenEstimate:
        """Of a prompt with about `prompt_tokens`, four characters each."""
        seen = self._models.get(model)
        if call.kind is CallKind.EMBEDDING:
            return TokenEstimate(max(round(prompt_tokens * (seen.ratio if seen else 1.0)), 1), 0, 0)
        choices = call.params.get("n") or 1
        named = next((limit for name in _LIMIT_NAMES if (limit := call.params.get(name))), None)
        common = seen.common_output() if seen else None
        most = (named or common or _UNKNOWN_OUTPUT) * choices
        return TokenEstimate(
            input=max(round(prompt_tokens * (seen.ratio if seen else 1.0)), 1),
            output_limit=most,
            output_expected=min(max(common or most, _LEAST_OUTPUT), most),
        )

    def learn(self, model: str, prompt_tokens: int, usage: Usage) -> None:
        """Take in what an answered call has used; `prompt_tokens` as estimated by its characters."""
        if usage.usage_estimated or not usage.prompt_tokens or usage.completion_tokens is None:
            return
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            self._models.pop(next(iter(self._models)))
        seen = self._models.setdefault(model, _Seen())
        if prompt_tokens > 0:
            ratio = min(max(usage.prompt_tokens / prompt_tokens, _LEAST_RATIO), _MOST_RATIO)
            seen.ratio += _RATIO_WEIGHT * (ratio - seen.ratio)
        seen.outputs.append(usage.completion_tokens)


class _Seen:
    __slots__ = ("outputs", "ratio")

    def __init__(self) -> None:
        self.ratio = 1.0
        self.outputs: deque[int] = deque(maxlen=_ANSWERS_KEPT)

    def common_output(self) -> int | None:
        """What 95 of 100 answers have stayed below; None before there are enough."""
        if len(self.outputs) < _ENOUGH_ANSWERS:
            return None
        return sorted(self.outputs)[len(self.outputs) * 95 // 100]
