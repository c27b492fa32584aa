from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule

from .limit_headers import ProviderLimit, Unit

logger = logging.getLogger(__name__)

#: Above this part of the provider's limit its headers are no news.
_NEWS_BELOW = 0.25
_LEAST_PAUSE_S = 1.0
_MOST_BUCKETS = 10_000
#: The field of a rule for each of the provider's limits.
_FIELDS: Mapping[Unit, str] = {
    "requests": "rpm", "tokens": "tpm", "input-tokens": "itpm", "output-tokens": "otpm",
}  # fmt: skip


class ProviderLimits:
    """Takes what providers say of their limits into ours: they tighten it, or are it where it is `auto`."""

    def __init__(self, ledger: LimitLedger, clock: Callable[[], float]) -> None:
        self._ledger, self._clock = ledger, clock
        #: What providers have said a limit is, by bucket.
        self._said: dict[str, dict[str, int]] = {}
        self._told_s: dict[str, float] = {}

    def as_provider_has_it(self, rule: LimitRule, bucket: str) -> LimitRule:
        """The rule with the rates that its provider named where it has none, or higher ones."""
        said = self._said.get(bucket)
        if not said or rule.learn.headers == "off":
            return rule
        own = {name: getattr(rule, name) for name in said}
        rates: dict[str, Any] = {
            name: min(own[name] or rate, rate)
            for name, rate in said.items()
            if own[name] is not None or rule.learn.headers == "auto"
        }
        if rule.tpm or "tpm" in rates:
            rates.pop("itpm", None), rates.pop("otpm", None)
        return rule.model_copy(update=rates)

    async def learn(
        self, asks: Sequence[tuple[LimitRule, LimitAsk]], limits: Mapping[Unit, ProviderLimit]
    ) -> None:
        """Take the limits of an answer into those that its call has passed."""
        for rule, ask in asks:
            if rule.learn.headers == "off" or not limits:
                continue
            self._note(ask.id, limits)
            now_s = self._clock()
            if now_s - self._told_s.get(ask.id, -_LEAST_PAUSE_S) < _LEAST_PAUSE_S:
                continue
            held = _hold_off_us(ask, limits)
            if not any(held):
                continue
            self._told_s[ask.id] = now_s
            try:
                await self._ledger.hold_off(ask.id, *held)
            except OUTAGE_ERRORS as error:
                logger.warning("A provider's limits were not noted, Redis is away: %s", type(error).__name__)

    def _note(self, bucket: str, limits: Mapping[Unit, ProviderLimit]) -> None:
        if bucket not in self._said and len(self._said) >= _MOST_BUCKETS:
            self._said.pop(next(iter(self._said)))
            self._told_s.clear()
        self._said[bucket] = {_FIELDS[unit]: one.limit for unit, one in limits.items()}


def _hold_off_us(ask: LimitAsk, limits: Mapping[Unit, ProviderLimit]) -> tuple[int, int, int]:
    """How far ahead of the clock each bucket has to be: so that what is left lasts until the reset."""
    tokens = limits.get("tokens") if ask.counts == "all" else limits.get("input-tokens")
    return (
        _ahead_us(limits.get("requests"), 1, ask.request_us, ask.request_burst_us),
        _ahead_us(tokens, ask.tokens, ask.token_us, ask.token_burst_us),
        _ahead_us(limits.get("output-tokens"), ask.outputs, ask.output_us, ask.output_burst_us),
    )


def _ahead_us(one: ProviderLimit | None, cost: int, emission_us: float, burst_us: int) -> int:
    if one is None or not emission_us or not cost or one.remaining >= _NEWS_BELOW * one.limit:
        return 0
    gap_us = 1e6 * one.reset_s * min(cost / (one.remaining + 1), 1.0)
    return round(max(gap_us + burst_us - cost * emission_us, 0))
