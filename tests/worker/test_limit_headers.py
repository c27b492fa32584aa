"""What providers say of their limits: read where it is of its form, and taken only to tighten."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.worker.admission.call_limits import limit_ask
from rustic_ai.llm_queue.worker.admission.estimates import TokenEstimate
from rustic_ai.llm_queue.worker.admission.limit_headers import ProviderLimit, provider_limits
from rustic_ai.llm_queue.worker.admission.provider_limits import ProviderLimits

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "10",
    "x-ratelimit-reset-requests": "6m0s",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "150000",
    "x-ratelimit-reset-tokens": "12ms",
}
ANTHROPIC = {
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-26T12:00:30Z",
}


def test_the_providers_forms_are_read() -> None:
    assert provider_limits(OPENAI, NOW) == {
        "requests": ProviderLimit(500, 10, 360.0), "tokens": ProviderLimit(200_000, 150_000, 0.012),
    }  # fmt: skip
    assert provider_limits(ANTHROPIC, NOW) == {"input-tokens": ProviderLimit(40_000, 0, 30.0)}


def test_a_moment_is_held_against_the_providers_own_clock() -> None:
    # The worker's own, today's, is no part of it.
    answer = {**ANTHROPIC, "date": "Thu, 26 Nov 2026 12:00:10 GMT"}
    assert provider_limits(answer) == {"input-tokens": ProviderLimit(40_000, 0, 20.0)}
    for nonsense in ("soon", "", "x" * 70, "Thu, 99 Nov 2026 99:00:10 GMT"):
        assert provider_limits({**OPENAI, "date": nonsense}) == provider_limits(OPENAI)


@pytest.mark.parametrize(
    "value", ["-1", "1e400", "NaN", "9" * 30, "", "x" * 70, "2026-11-26T12:00:30", "0.5"]
)
def test_a_value_that_is_none_is_passed_over(value: str) -> None:
    assert provider_limits({**OPENAI, "x-ratelimit-remaining-requests": value}, NOW).keys() == {"tokens"}


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC]), st.text(max_size=80)))
def test_whatever_comes_in_is_borne(headers: dict[str, str]) -> None:
    for one in provider_limits(headers, NOW).values():
        assert 0 <= one.remaining <= one.limit
        assert 0 <= one.reset_s <= 86_400


class NotedLedger:
    """Notes what would be held off."""

    def __init__(self) -> None:
        self.held: list[tuple[str, int, int, int]] = []

    async def hold_off(self, limit_id: str, requests_us: int, tokens_us: int, output_us: int) -> None:
        self.held.append((limit_id, requests_us, tokens_us, output_us))


TOKENS = TokenEstimate(100, 50, 50)


def asked(rule: LimitRule) -> LimitAsk:
    return limit_ask(rule, f"{rule.name}:x", TOKENS, "openai")


async def test_little_that_is_left_is_spread_until_the_reset_and_told_once_a_second() -> None:
    ledger, now_s = NotedLedger(), [100.0]
    learning = ProviderLimits(ledger, lambda: now_s[0])  # type: ignore[arg-type]  # all that it uses
    rule = LimitRule(name="x", rpm=500)
    for _ in range(5):
        await learning.learn([(rule, asked(rule))], provider_limits(OPENAI, NOW))
    ((_, requests_us, tokens_us, _),) = ledger.held
    ask = asked(rule)
    gap_us = requests_us + ask.request_us - ask.request_burst_us
    assert gap_us == pytest.approx(360e6 / 11, abs=1), "10 are left for six minutes"
    assert tokens_us == 0, "three quarters are left: no news"
    now_s[0] += 1
    await learning.learn([(rule, asked(rule))], provider_limits(OPENAI, NOW))
    assert len(ledger.held) == 2


@pytest.mark.parametrize(
    ("given_rule", "rpm", "tpm"),
    [
        ({"rpm": 900}, 500, None),
        ({"rpm": 100}, 100, None),
        ({"learn": {"headers": "auto"}}, 500, 200_000),
        ({"rpm": 900, "learn": {"headers": "off"}}, 900, None),
    ],
)
async def test_a_limit_is_never_loosened_but_where_it_is_the_providers(
    given_rule: dict[str, Any], rpm: int, tpm: int | None
) -> None:
    learning = ProviderLimits(NotedLedger(), lambda: 0.0)  # type: ignore[arg-type]  # all that it uses
    rule = LimitRule.model_validate({"name": "x", **given_rule})
    await learning.learn([(rule, asked(rule))], provider_limits(OPENAI, NOW))
    learned = learning.as_provider_has_it(rule, "x:x")
    assert (learned.rpm, learned.tpm) == (rpm, tpm)
    assert learning.as_provider_has_it(rule, "x:other") == rule, "another key's limit is another"
