"""What a call asks of its limits: rates that no minute exceeds, and buckets that nobody else's call is in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.worker.admission.call_limits import limit_ask
from rustic_ai.llm_queue.worker.admission.estimates import TokenEstimate

TOKENS = TokenEstimate(input=100, output_limit=1_000, output_expected=200)
MINUTE_US = 60_000_000


def starts(rule: LimitRule, count: int) -> list[float]:
    """When calls that wait in a line are let through, in µs, by the same arithmetic as the ledger's."""
    ask, tat, now, times = limit_ask(rule, "x", TOKENS, "openai"), 0.0, 0.0, []
    for _ in range(count):
        later = max(tat, now) + ask.request_us
        now = max(now, later - ask.request_burst_us)
        tat = max(tat, now) + ask.request_us
        times.append(now)
    return times


@given(rpm=st.integers(1, 600), burst=st.integers(1, 600))
def test_no_minute_has_more_requests_than_the_limit(rpm: int, burst: int) -> None:
    rule = LimitRule(name="x", rpm=rpm, burst=min(burst, rpm))
    times = starts(rule, 2 * rpm + 2)
    for first, over in zip(times, times[rpm:], strict=False):
        assert over - first >= MINUTE_US


@pytest.mark.parametrize("rpm", [60, 500, 6_000])
def test_a_line_of_waiting_calls_uses_nearly_all_of_it(rpm: int) -> None:
    times = starts(LimitRule(name="x", rpm=rpm), 10 * rpm)
    minutes = times[-1] / MINUTE_US
    assert 10 * rpm / minutes >= 0.97 * rpm


@pytest.mark.parametrize(
    ("provider", "count", "tokens"),
    [("openai", "auto", 1_100), ("anthropic", "auto", 300), ("openai", "actual", 300), ("x", "max", 1_100)],
)
def test_output_tokens_are_reserved_as_providers_count_them(provider: str, count: str, tokens: int) -> None:
    rule = LimitRule.model_validate({"name": "x", "tpm": 10_000, "count": count})
    assert limit_ask(rule, "x", TOKENS, provider).tokens == tokens


def test_input_and_output_have_limits_of_their_own() -> None:
    ask = limit_ask(LimitRule(name="x", itpm=1_000, otpm=500, count="actual"), "x", TOKENS, "anthropic")
    assert (ask.tokens, ask.outputs, ask.counts) == (100, 200, "input")
    assert ask.request_us == 0, "there is no limit of requests"
