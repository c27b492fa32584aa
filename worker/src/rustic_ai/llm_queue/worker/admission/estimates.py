from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.call import Call, CallKind
from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.limits.learned_tokens import LearnedModel, LearnedTokens
from rustic_ai.llm_queue.tasks.usage import Usage

logger = logging.getLogger(__name__)

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
#: After as many answers of a model, and after so many each, what is known is written down for other workers.
_TOLD_EVERY = 100
_MOST_MODELS = 500


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """A call's tokens, before it is made."""

    input: int
    #: The most that it may bring, and what such calls commonly bring.
    output_limit: int
    output_expected: int


class TokenEstimates:
    """Estimates a call's tokens by what earlier calls of its model have taken.

    Each worker learns by itself. It begins with what others have learned, and writes down for them what it
    has. `shared` is None where no limit needs it.
    """

    def __init__(self, shared: LearnedTokens | None) -> None:
        self._shared = shared
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

    async def begin(self, model: str) -> None:
        """Take over what other workers have learned of a model that this one knows nothing of yet."""
        if self._shared is None or model in self._models:
            return
        seen = self._seen(model)
        try:
            learned = await self._shared.of(model)
        except OUTAGE_ERRORS:
            return
        if learned is not None:
            seen.ratio = min(max(learned.ratio, _LEAST_RATIO), _MOST_RATIO)
            seen.others_output = learned.output

    async def learn(self, model: str, prompt_tokens: int, usage: Usage) -> None:
        """Take in what an answered call has used; `prompt_tokens` as estimated by its characters."""
        if usage.usage_estimated or not usage.prompt_tokens or usage.completion_tokens is None:
            return
        seen = self._seen(model)
        if prompt_tokens > 0:
            ratio = min(max(usage.prompt_tokens / prompt_tokens, _LEAST_RATIO), _MOST_RATIO)
            seen.ratio += _RATIO_WEIGHT * (ratio - seen.ratio)
        seen.outputs.append(usage.completion_tokens)
        seen.answers += 1
        if self._shared is not None and (seen.answers == _ENOUGH_ANSWERS or seen.answers % _TOLD_EVERY == 0):
            await self._tell(self._shared, model, seen)

    def _seen(self, model: str) -> _Seen:
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            self._models.pop(next(iter(self._models)))
        return self._models.setdefault(model, _Seen())

    async def _tell(self, shared: LearnedTokens, model: str, seen: _Seen) -> None:
        try:
            await shared.note(model, LearnedModel(seen.ratio, seen.common_output() or 0))
        except OUTAGE_ERRORS as error:
            logger.debug("What was learned of a model was not written down: %s", type(error).__name__)


class _Seen:
    __slots__ = ("answers", "others_output", "outputs", "ratio")

    def __init__(self) -> None:
        self.ratio = 1.0
        self.outputs: deque[int] = deque(maxlen=_ANSWERS_KEPT)
        #: How many of them there have been.
        self.answers = 0
        #: What other workers had learned when this one began.
        self.others_output: int | None = None

    def common_output(self) -> int | None:
        """What 95 of 100 answers have stayed below; None before there are enough."""
        if len(self.outputs) < _ENOUGH_ANSWERS:
            return self.others_output
        return sorted(self.outputs)[len(self.outputs) * 95 // 100]
