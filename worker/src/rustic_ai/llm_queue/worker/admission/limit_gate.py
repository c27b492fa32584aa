from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger.call_use import CallUse
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger
from rustic_ai.llm_queue.tasks.ledger.verdicts import Admission
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.tasks.usage import Usage

from ..provider.targets.credentials import Target
from .budgets import Budgets
from .call_facts import CallFacts
from .call_limits import COOLDOWN_PLACE, CallLimits, oversize
from .estimates import TokenEstimate, TokenEstimates
from .gate import Claimed, NextCall, Refused, Verdict
from .limit_headers import provider_limits
from .provider_limits import ProviderLimits
from .ticker import Ticker

logger = logging.getLogger(__name__)

_NOT_AT_ALL = timedelta(0)


class LimitGate:
    """Passes each call through its limits, which all workers share: a `CallGate`.

    A call without room waits: its job goes back to the ledger, which starts it when there is, and a
    worker claims it like any other.
    """

    def __init__(
        self,
        ledger: LimitLedger,
        rules: Sequence[LimitRule],
        ticker: Ticker,
        *,
        key: bytes,
        budgets: Budgets,
    ) -> None:
        self._ledger, self._ticker, self._budgets = ledger, ticker, budgets
        self._rules = {rule.name: rule for rule in rules}
        self._provider_limits = ProviderLimits(ledger, time.monotonic)
        self.limits = CallLimits(rules, self._provider_limits, key=key)
        counts_tokens = budgets.any or any(
            one.tpm or one.itpm or one.otpm or one.learn.headers == "auto" for one in rules
        )
        self.estimates = TokenEstimates(ledger.learned if counts_tokens else None)

    async def admit(self, job: Claimed, call: NextCall) -> Verdict:
        """Let the call through, or leave its job with the ledger until all its limits have room.

        Raises `Refused` for a call that may not wait, or that would wait past its deadline.
        """
        assert job.record is not None
        assert job.call is not None
        facts = CallFacts.of(job, call.target)
        await self.estimates.begin(call.target.model)
        tokens = self._estimate(job, call.target)
        budgets = self._budgets.asks(job, facts, call.target, tokens)
        asks = self.limits.asks(
            facts,
            call.target,
            tokens,
            with_cooldowns=job.limits_closed or bool(call.ended),
            budgets=budgets,
        )
        if not asks:
            return "admitted"
        self._refuse_oversize(asks, tokens, call)
        admission = await self._ledger.admit(
            job.job_id,
            job.epoch,
            asks,
            begun=call.number - 1,
            ended=call.ended,
            longest_wait=_longest_wait(job, call),
            used=CallUse.of_usage(call.used),
        )
        match admission.verdict:
            case "granted":
                job.passed_budget(self._budgets.state(budgets, admission.budgets))
                return "admitted"
            case "cancelled":
                return "cancelled"
            case "stale":
                return "lost"
            case "refused":
                of_budget = self._budgets.refusal(admission, budgets, call.target)
                raise of_budget or Refused(_no_room(admission, call))
            case "waits":
                logger.debug("Job %s waits for the limit %s", job.job_id, admission.limit)
                job.waits_at((admission.limit or "").partition(":")[0])
                self._ticker.wake()
        return "parked"

    async def note_answer(
        self, job: Claimed, target: Target, usage: Usage, headers: Mapping[str, str]
    ) -> None:
        """Learn what such calls take, and what the provider says of its limits."""
        assert job.record is not None
        tokens = self._estimate(job, target)
        await self.estimates.learn(target.model, job.record.job.estimated_tokens, usage)
        if headers and self._rules:
            own = self.limits.of_rules(CallFacts.of(job, target), target, tokens)
            wide = [(rule, ask) for rule, ask in own if rule.narrowness >= COOLDOWN_PLACE]
            await self._provider_limits.learn(wide, provider_limits(headers))

    def _estimate(self, job: Claimed, target: Target) -> TokenEstimate:
        assert job.record is not None
        assert job.call is not None
        return self.estimates.estimate(job.call, target.model, job.record.job.estimated_tokens)

    def _refuse_oversize(
        self, asks: Sequence[LimitAsk | BudgetAsk], tokens: TokenEstimate, call: NextCall
    ) -> None:
        for ask in asks:
            rule = self._rules.get(ask.id.partition(":")[0])
            if rule is not None and rule.oversize == "refuse" and oversize(rule, tokens):
                most = rule.tpm or rule.itpm or rule.otpm
                message = (
                    f"the call is reckoned at {tokens.input:,} tokens and {tokens.output_expected:,} of "
                    f"answer, more than the limit {rule.name!r} has in a minute ({most:,}); shorten it, or "
                    "raise the limit"
                )
                raise Refused(
                    ErrorEnvelope(kind=ErrorKind.LIMIT_EXCEEDED, message=message, model=call.target.model)
                )


def _longest_wait(job: Claimed, call: NextCall) -> timedelta | None:
    assert job.call is not None
    when_limited, max_wait_s = job.call.when_limited, job.call.max_wait_s
    if when_limited == "fail" or (when_limited == "fall_back" and call.may_fall_back):
        return _NOT_AT_ALL
    return None if max_wait_s is None else timedelta(seconds=max_wait_s)


def _no_room(admission: Admission, call: NextCall) -> ErrorEnvelope:
    name = (admission.limit or "").partition(":")[0]
    wait_s = None if admission.retry_after is None else admission.retry_after.total_seconds()
    when = "when other calls end" if wait_s is None else f"in {wait_s:.1f} s"
    return ErrorEnvelope(
        kind=ErrorKind.RATE_LIMIT,
        message=f"the limit {name!r} has room for this call {when} ({admission.ahead} others wait before "
        "it), and it may not wait so long",
        model=call.target.model,
        retry_after_s=wait_s,
    )
