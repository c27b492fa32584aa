from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from .. import keys

_MOST_MODELS = 1_000
_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """What a worker has learned of a model's calls."""

    #: True tokens of a prompt, for each that its characters let expect.
    ratio: float
    #: Tokens that 95 of 100 answers have stayed below.
    output: int


class LearnedTokens:
    """What workers have learned of models, for those that know nothing of them yet.

    Every method raises redis-py's `ConnectionError` or `TimeoutError` once the client's retries are used up.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def of(self, model: str) -> LearnedModel | None:
        """What the latest worker to write has learned; None where it is nothing, or makes no sense."""
        text = await self._redis.hget(keys.LEARNED, model)
        try:
            ratio, output = json.loads(text or "null")
            found = LearnedModel(float(ratio), int(output))
        except (TypeError, ValueError, OverflowError):
            return None
        return found if math.isfinite(found.ratio) and found.ratio > 0 and found.output >= 0 else None

    async def note(self, model: str, learned: LearnedModel) -> None:
        """Write what was learned of a model, unless there are too many models already."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(keys.LEARNED)
            pipe.hexists(keys.LEARNED, model)
            count, known = await pipe.execute()
        if known or count < _MOST_MODELS:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(keys.LEARNED, model, json.dumps([round(learned.ratio, 4), learned.output]))
                pipe.pexpire(keys.LEARNED, _KEPT)
                await pipe.execute()
