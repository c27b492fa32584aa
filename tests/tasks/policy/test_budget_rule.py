"""`[[budgets]]` of the policy file: what is wrong is refused by row, field and value; and periods."""

from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.policy.budget_rule import parse_budgets

GOOD: dict[str, Any] = {"name": "acme", "usd": 200, "period": "month"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"usd": "ten"}, "usd must be dollars, above 0 and at most 9,000,000, not 'ten'"),
        ({"usd": -1}, "usd .*not -1"),
        ({"usd": float("nan")}, "usd .*not nan"),
        ({"usd": 9_000_001}, "usd .*not 9000001"),
        ({"usd": True}, "usd .*not True"),
        ({"usd": None}, "give usd or tokens"),
        ({"tokens": 5}, "give usd or tokens"),
        ({"usd": None, "tokens": 1.5}, "tokens must be a whole number"),
        ({"period": "year"}, "period 'year': input should be 'day', 'week', 'month', 'total' or 'run'"),
        ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is no time zone"),
        ({"on_exceeded": "explode"}, "on_exceeded 'explode'"),
        ({"on_exceeded": "degrade"}, "budget_fallbacks go together"),
        ({"budget_fallbacks": {"a": "b"}}, "budget_fallbacks go together"),
        (
            {"on_exceeded": "degrade", "budget_fallbacks": {"gpt-4*": "gpt-4o-mini"}},
            "budget_fallbacks.gpt-4. is 'gpt-4o-mini', which itself is to be replaced",
        ),
        ({"alerts": [50, 50]}, "alerts percents are from 1 to 100, each once"),
        ({"alerts": [0]}, "alerts percents"),
        ({"alerts": 80}, "alerts must be a list"),
        ({"match": {"agent": "a"}}, "match match.agent needs match.guild|match.agent needs match.guild"),
        ({"match": {"team": "a"}}, "match.team is not known here; there are agent"),
        ({"limit": 5}, "limit is not known here; there are name, match"),
        ({"per": ["org", "org"]}, "per names a dimension twice"),
        ({"unpriced": "free"}, "unpriced must be 'refuse', 'allow', or dollars a token, .*not 'free'"),
        ({"unpriced": 2}, "unpriced .*0.000002 is 2 USD for a million.*not 2"),
        ({"unpriced": -0.1}, "unpriced .*not -0.1"),
        ({"unpriced": float("nan")}, "unpriced .*not nan"),
        ({"unpriced": True}, "unpriced .*not True"),
        ({"usd": None, "tokens": 5, "unpriced": 0.01}, "unpriced = 0.01 is in dollars"),
        ({"name": "a b"}, "name 'a b'"),
    ],
)
def test_a_wrong_row_is_refused_by_name(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"budgets\[0\].*({complaint})"):
        parse_budgets([GOOD | row])


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r'budgets\[1\] "acme": there is a budget of this name already'):
        parse_budgets([GOOD, GOOD])
