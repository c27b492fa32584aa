from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.budget_state import BudgetState
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from rustic_ai.llm_queue.tasks.ledger.verdicts import Admission, BudgetAmounts
from rustic_ai.llm_queue.tasks.policy.budget_rule import NANO, BudgetRule

from ..provider.targets.credentials import Target
from ..provider.worst_case import most_output, priced
from .budget_period import BudgetPeriod
from .call_facts import CallFacts
from .estimates import TokenEstimate
from .gate import Claimed, Refused

#: A prompt may have some more tokens than are reckoned for it.
_MORE_INPUT, _MORE_INPUT_TOKENS = 1.25, 16
_OF_THE_CALL = "max_cost_usd"


@dataclass(frozen=True, slots=True)
class _Price:
    """What a call may take: its tokens, and its dollars where its model has a price."""

    tokens: int
    usd: float | None


class Budgets:
    """Which budgets a call has to pass, and what it holds of each."""

    def __init__(self, rules: Sequence[BudgetRule], *, key: bytes, max_output_tokens: int | None) -> None:
        """
        Args:
            key: keeps the names of budgets in Redis from showing what they are split by.
            max_output_tokens: what is asked for where a call names no limit.
        """
        self._rules = {rule.name: rule for rule in rules}
        self._key, self._max_output_tokens = key, max_output_tokens

    @property
    def any(self) -> bool:
        """There are budgets."""
        return bool(self._rules)

    def asks(self, job: Claimed, facts: CallFacts, target: Target, tokens: TokenEstimate) -> list[BudgetAsk]:
        """What the call asks of each of its budgets.

        Raises `Refused` where it may cost more than it said itself, or where its model has no price and a
        budget in dollars is for it.
        """
        call = job.call
        assert call is not None
        if call.max_cost_usd is not None:
            self._check_own_limit(call.max_cost_usd, self._price(job, target, tokens, "max"), target)
        found: list[BudgetAsk] = []
        for rule in self._rules.values():
            if not _counts(rule, facts, target) or (rule.period == "run" and call.budget_run is None):
                continue
            price = self._price(job, target, tokens, rule.hold)
            if rule.usd is not None and price.usd is None:
                if rule.unpriced == "refuse":
                    raise Refused(_unpriced(rule, target))
                if rule.usd_a_token is None:
                    continue
                price = _Price(price.tokens, price.tokens * rule.usd_a_token)
            found.append(self._ask(rule, price, facts, job))
        return found

    def state(self, asks: Sequence[BudgetAsk], amounts: Sequence[BudgetAmounts]) -> BudgetState | None:
        """The one with the least left, of budgets and the amounts that the ledger gave for them."""
        states = [_state(ask, amount) for ask, amount in zip(asks, amounts, strict=False)]
        return max(states, key=lambda state: state.used, default=None)

    def refusal(self, admission: Admission, asks: Sequence[BudgetAsk], target: Target) -> Refused | None:
        """Why a call is not made for which a budget has no room; None where it was none."""
        ask = next((one for one in asks if one.id == admission.limit), None)
        if ask is None or not admission.budgets:
            return None
        rule, state = self._rules[_name(ask)], _state(ask, admission.budgets[0])
        permanent = ask.hold > admission.budgets[0].limit
        envelope = ErrorEnvelope(
            kind=ErrorKind.BUDGET_EXCEEDED,
            message=_explained(state, ask, permanent=permanent),
            model=target.model,
            retry_after_s=None if admission.retry_after is None else admission.retry_after.total_seconds(),
            budget=state.model_copy(update={"permanent": permanent}),
        )
        instead = rule.fallback(target.model) if rule.on_exceeded == "degrade" else None
        return Refused(envelope, instead=instead)

    def _price(self, job: Claimed, target: Target, tokens: TokenEstimate, hold: str) -> _Price:
        assert job.call is not None
        input_tokens, output_tokens = tokens.input, tokens.output_expected
        if hold == "max":
            input_tokens = math.ceil(tokens.input * _MORE_INPUT) + _MORE_INPUT_TOKENS
            output_tokens = most_output(job.call, target, self._max_output_tokens)
        return _Price(input_tokens + output_tokens, priced(target, input_tokens, output_tokens))

    def _ask(self, rule: BudgetRule, price: _Price, facts: CallFacts, job: Claimed) -> BudgetAsk:
        assert job.call is not None
        split = facts.split(rule.per, "")
        if rule.period == "run":
            split.append(job.call.budget_run or "")
        period = BudgetPeriod.at(job.redis_ms, rule.period, rule.timezone)
        in_dollars = rule.usd is not None
        return BudgetAsk(
            id=keys.budget_id(rule.name, split, period.name, self._key),
            unit="usd" if in_dollars else "tokens",
            hold=math.ceil((price.usd or 0) * NANO) if in_dollars else price.tokens,
            cap=rule.amount,
            ends_ms=period.ends_ms,
            mode="refuse" if rule.on_exceeded == "degrade" else rule.on_exceeded,
            alerts=rule.alerts,
            token_nano=(rule.usd_a_token or 0) * NANO,
        )

    def _check_own_limit(self, max_cost_usd: float, price: _Price, target: Target) -> None:
        if price.usd is not None and price.usd <= max_cost_usd:
            return
        if price.usd is None:
            why = f"{_OF_THE_CALL}: the model has no price, so what the call costs cannot be held against it"
        else:
            why = (
                f"{_OF_THE_CALL}: the call may cost {price.usd:.6f} USD, more than {max_cost_usd:g}; "
                "shorten it, lower max_tokens, or raise the limit"
            )
        state = BudgetState(
            name=_OF_THE_CALL, unit="usd", spent=0, held=0, limit=max_cost_usd, permanent=True
        )
        raise Refused(
            ErrorEnvelope(kind=ErrorKind.BUDGET_EXCEEDED, message=why, model=target.model, budget=state)
        )


def _counts(rule: BudgetRule, facts: CallFacts, target: Target) -> bool:
    """Calls with a key of the job's own are the tenant's money, unless the budget says otherwise."""
    if target.foreign or (facts.own_key and not rule.match.credential):
        return False
    return rule.match.admits(facts.values)


def _name(ask: BudgetAsk) -> str:
    return ask.id.partition(":")[0]


def _state(ask: BudgetAsk, amounts: BudgetAmounts) -> BudgetState:
    unit: Mapping[str, int] = {"usd": NANO, "tokens": 1}
    spent, held, limit = (amount / unit[ask.unit] for amount in (amounts.spent, amounts.held, amounts.limit))
    return BudgetState(
        name=_name(ask),
        unit=ask.unit,
        spent=spent,
        held=held,
        limit=limit,
        resets_at=ask.ends_ms / 1000 if ask.ends_ms else None,
    )


def _explained(state: BudgetState, ask: BudgetAsk, *, permanent: bool) -> str:
    def shown(amount: float) -> str:
        return f"{amount:.6f} USD" if state.unit == "usd" else f"{amount:,.0f} tokens"

    hold = shown(ask.hold / NANO if state.unit == "usd" else ask.hold)
    if permanent:
        return (
            f"the call may take {hold}, more than the whole budget {state.name!r} of {shown(state.limit)}; "
            "shorten it, or lower max_tokens"
        )
    return (
        f"the budget {state.name!r} of {shown(state.limit)} has no room for a call that may take {hold}: "
        f"{shown(state.spent)} are spent, and calls under way hold {shown(state.held)}"
    )


def _unpriced(rule: BudgetRule, target: Target) -> ErrorEnvelope:
    return ErrorEnvelope(
        kind=ErrorKind.BUDGET_EXCEEDED,
        message=f"the budget {rule.name!r} is in dollars, and the model has no price; give it one in the "
        "workers' LiteLLM config, or set unpriced to dollars a token, or to 'allow'",
        model=target.model,
    )
