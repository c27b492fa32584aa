"""A budget's periods are those of its time zone, days of 23 and 25 hours among them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rustic_ai.llm_queue.worker.admission.budget_period import BudgetPeriod


def _ms(*moment: int) -> int:
    year, month, day, *rest = moment
    hour, minute = (*rest, 0, 0)[:2]
    return round(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now_ms", "period", "name", "ends_ms"),
    [
        (_ms(2026, 11, 26, 22, 59), "day", "day-2026-11-26", _ms(2026, 11, 26, 23)),
        (_ms(2026, 11, 26, 23), "day", "day-2026-11-27", _ms(2026, 11, 27, 23)),
        (_ms(2026, 10, 24, 22), "day", "day-2026-10-25", _ms(2026, 10, 25, 23)),
        (_ms(2026, 10, 25, 22, 59), "day", "day-2026-10-25", _ms(2026, 10, 25, 23)),
        (_ms(2027, 3, 27, 23), "day", "day-2027-03-28", _ms(2027, 3, 28, 22)),
        (_ms(2026, 11, 26, 12), "week", "week-2026-11-23", _ms(2026, 11, 29, 23)),
        (_ms(2026, 12, 31, 12), "month", "month-2026-12", _ms(2026, 12, 31, 23)),
        (_ms(2026, 3, 15, 12), "month", "month-2026-03", _ms(2026, 3, 31, 22)),
        (_ms(2026, 3, 15, 12), "total", "total", 0),
    ],
)
def test_periods(now_ms: int, period: Any, name: str, ends_ms: int) -> None:
    assert BudgetPeriod.at(now_ms, period, "Europe/Berlin") == BudgetPeriod(name, ends_ms)
