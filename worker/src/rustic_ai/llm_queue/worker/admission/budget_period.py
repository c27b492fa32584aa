from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rustic_ai.llm_queue.tasks.policy.budget_rule import Period


@dataclass(frozen=True, slots=True)
class BudgetPeriod:
    """The period that a moment falls into."""

    #: Part of the budget's key.
    name: str
    #: Unix milliseconds; 0 for a period without an end.
    ends_ms: int = 0

    @classmethod
    def at(cls, now_ms: int, period: Period, timezone: str) -> BudgetPeriod:
        """Of a moment on Redis' clock. Days begin at midnight in `timezone`, weeks on Monday.

        A day of a change to or from summer time has 23 or 25 hours.
        """
        if period in ("total", "run"):
            return cls(period)
        zone = ZoneInfo(timezone)
        day = datetime.fromtimestamp(now_ms / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if period == "day":
            return cls(f"day-{day:%Y-%m-%d}", _ms(day + timedelta(days=1)))
        if period == "week":
            monday = day - timedelta(days=day.weekday())
            return cls(f"week-{monday:%Y-%m-%d}", _ms(monday + timedelta(days=7)))
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return cls(f"month-{day:%Y-%m}", _ms(following))


def _ms(midnight: datetime) -> int:
    # Sums of aware datetimes are by the wall clock: the offset is the one of that day.
    return round(midnight.timestamp() * 1000)
