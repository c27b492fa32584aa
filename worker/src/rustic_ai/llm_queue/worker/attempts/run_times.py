from __future__ import annotations

from collections import deque

_KEPT = 200
_ENOUGH = 20
_MOST_MODELS = 500


class RunTimes:
    """How long calls of each model take at the default tier, as this worker has seen it."""

    def __init__(self) -> None:
        self._models: dict[str, deque[float]] = {}

    def learn(self, model: str, seconds: float) -> None:
        """Take note of an answered call."""
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            self._models.pop(next(iter(self._models)))
        self._models.setdefault(model, deque(maxlen=_KEPT)).append(seconds)

    def common_s(self, model: str) -> float | None:
        """Seconds that 95 of 100 calls have stayed below; None before there are enough."""
        seen = self._models.get(model, ())
        if len(seen) < _ENOUGH:
            return None
        return sorted(seen)[len(seen) * 95 // 100]
