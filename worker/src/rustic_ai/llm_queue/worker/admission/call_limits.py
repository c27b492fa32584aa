from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule

from ..provider.targets.credentials import Target
from ..provider.targets.model_names import model_names
from .call_facts import CallFacts
from .estimates import TokenEstimate
from .provider_limits import ProviderLimits

_MINUTE_US = 60_000_000
#: Calls reach the provider a little later than they were let through, some more than others. So much
#: more than a minute is reckoned with, that no minute of the provider's holds more than the limit.
_SPREAD_US = 1_000_000
#: Part of a minute's requests and tokens that may go at once.
_BURST_PART = 100
#: Providers that count a call's whole `max_tokens` when it comes in.
_COUNT_MAX_TOKENS = frozenset({"azure", "cerebras", "openai"})
#: Where the providers' own limits stand among the others: after those of agents, guilds and organisations.
COOLDOWN_PLACE = 3


class CallLimits:
    """Which limits a call has to pass, and what it asks of each."""

    def __init__(self, rules: Sequence[LimitRule], provider_limits: ProviderLimits, *, key: bytes) -> None:
        """`key` keeps the names of buckets from showing what they are split by."""
        self._rules = sorted(rules, key=lambda rule: rule.narrowness)
        self._provider_limits, self._key = provider_limits, key

    def asks(
        self,
        facts: CallFacts,
        target: Target,
        tokens: TokenEstimate,
        *,
        with_cooldowns: bool,
        budgets: Sequence[BudgetAsk] = (),
    ) -> list[LimitAsk | BudgetAsk]:
        """What the call asks of each of its limits, the narrow ones first.

        Budgets, and the limits that providers close, stand behind those of agents, guilds and organisations.
        """
        found = self.of_rules(facts, target, tokens)
        narrow = [ask for rule, ask in found if rule.narrowness < COOLDOWN_PLACE]
        wide = [ask for rule, ask in found if rule.narrowness >= COOLDOWN_PLACE]
        cooldowns = self.cooldowns(target).values() if with_cooldowns else ()
        return [*narrow, *budgets, *cooldowns, *wide]

    def of_rules(
        self, facts: CallFacts, target: Target, tokens: TokenEstimate
    ) -> list[tuple[LimitRule, LimitAsk]]:
        """The operators' limits that are for this call, and what it asks of each."""
        credential = str(target.options.get("api_key") or "")
        found: list[tuple[LimitRule, LimitAsk]] = []
        for rule in self._rules:
            if rule.match.admits(facts.values):
                bucket = keys.limit_id(rule.name, facts.split(rule.per, credential), self._key)
                rated = self._provider_limits.as_provider_has_it(rule, bucket)
                found.append((rule, limit_ask(rated, bucket, tokens, target.provider)))
        return found

    def cooldowns(self, target: Target) -> dict[str, LimitAsk]:
        """The limits that close when the provider refuses calls: of the key, the key's model, the model."""
        provider, name = target.provider or "", str(target.options.get("model", target.model))
        model, *_ = model_names(provider, name, name)
        credential = str(target.options.get("api_key") or "")
        parts = {
            "key": [provider, credential],
            "key_and_model": [provider, credential, model],
            "model": [provider, model],
        }
        return {
            scope: LimitAsk(keys.limit_id(f"~{scope}", values, self._key)) for scope, values in parts.items()
        }


def limit_ask(rule: LimitRule, bucket: str, tokens: TokenEstimate, provider: str | None) -> LimitAsk:
    """What one call asks of one limit."""
    request_us, request_burst_us = _emission(rule.rpm, rule.burst if rule.burst != "auto" else None)
    token_us, token_burst_us = _emission(rule.tpm or rule.itpm)
    output_us, output_burst_us = _emission(rule.otpm)
    counted_so = rule.count if rule.count != "auto" else "max" if provider in _COUNT_MAX_TOKENS else "actual"
    output = tokens.output_limit if counted_so == "max" else tokens.output_expected
    return LimitAsk(
        id=bucket,
        request_us=request_us,
        request_burst_us=request_burst_us,
        token_us=token_us,
        token_burst_us=token_burst_us,
        tokens=min(tokens.input + (output if rule.tpm else 0), rule.tpm or rule.itpm or 0),
        output_us=output_us,
        output_burst_us=output_burst_us,
        outputs=min(output, rule.otpm or 0),
        most_running=rule.max_parallel_requests or 0,
        counts="all" if rule.tpm else "input",
    )


@dataclass(frozen=True, slots=True)
class LimitRoom:
    """What one dimension of a limit has to give at once: seconds of its bucket, or calls."""

    #: As the policy file names it.
    dimension: Literal["rpm", "tpm", "itpm", "otpm", "max_parallel_requests"]
    most: float


def rooms(rule: LimitRule) -> list[LimitRoom]:
    """What a limit has to give, in each dimension that it limits itself; none of what a provider decides."""
    bursts: dict[Literal["rpm", "tpm", "itpm", "otpm"], tuple[float, int]] = {
        "rpm": _emission(rule.rpm, rule.burst if rule.burst != "auto" else None),
        "tpm": _emission(rule.tpm),
        "itpm": _emission(rule.itpm),
        "otpm": _emission(rule.otpm),
    }
    found = [LimitRoom(name, burst / 1e6) for name, (_, burst) in bursts.items() if burst]
    if rule.max_parallel_requests:
        found.append(LimitRoom("max_parallel_requests", rule.max_parallel_requests))
    return found


def oversize(rule: LimitRule, tokens: TokenEstimate) -> bool:
    """Whether the call's tokens are more than the limit has in a minute."""
    if rule.tpm is not None:
        return tokens.input + tokens.output_expected > rule.tpm
    return (rule.itpm is not None and tokens.input > rule.itpm) or (
        rule.otpm is not None and tokens.output_expected > rule.otpm
    )


def _emission(a_minute: int | None, at_once: int | None = None) -> tuple[float, int]:
    """The µs that one unit takes of a bucket, and the µs that may go at once.

    Such that no minute holds more than `a_minute`: n units that go as fast as they may take the time of
    n - burst of them.
    """
    if not a_minute:
        return 0, 0
    burst = min(at_once or max(a_minute // _BURST_PART, 1), a_minute)
    interval = round((_MINUTE_US + _SPREAD_US) / (a_minute + 1 - burst), 3)
    return interval, round(burst * interval)
