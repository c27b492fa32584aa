from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_NO_ALERT = 0
_MOST_ALERTS = 5
_MODES = {"wait": 0, "refuse": 1, "warn": 2}


@dataclass(frozen=True, slots=True)
class BudgetAsk:
    """What a provider call asks of one budget. Amounts are nanodollars, or tokens."""

    #: `keys.budget_id`.
    id: str
    unit: Literal["usd", "tokens"]
    #: The most that the call may take.
    hold: int
    #: The whole budget.
    cap: int
    #: When its period ends, in Unix milliseconds; 0 for never.
    ends_ms: int = 0
    #: What becomes of a call without room. With `warn` it is made all the same.
    mode: Literal["wait", "refuse", "warn"] = "wait"
    #: Percents of the budget, at most five.
    alerts: tuple[int, ...] = ()

    def words(self) -> tuple[str | int | float, ...]:
        """The arguments of `admit` for this budget, in the order of `budgets.lua`."""
        alerts = (*self.alerts, *[_NO_ALERT] * _MOST_ALERTS)[:_MOST_ALERTS]
        return (self.id, self.unit, self.hold, self.cap, self.ends_ms, _MODES[self.mode], *alerts)
