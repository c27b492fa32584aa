from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_NO_ALERTS = "-"
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
    #: Nanodollars that a token takes where the call turns out to have no price.
    token_nano: float = 0

    def words(self) -> tuple[str | int | float, ...]:
        """The arguments of `admit` for this budget, in the order of `budgets.lua`."""
        alerts = ",".join(map(str, self.alerts)) or _NO_ALERTS
        mode = _MODES[self.mode]
        return (
            self.id,
            self.unit,
            self.hold,
            self.cap,
            self.ends_ms,
            mode,
            alerts,
            self.token_nano,
        )
