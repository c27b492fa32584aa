"""`[[budgets]]` of the policy file: the money, or tokens, that calls may take in a period."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .limit_rule import Dimension, LimitMatch
from .row_errors import explain_row

Period = Literal["day", "week", "month", "total", "run"]
OnExceeded = Literal["wait", "degrade", "refuse", "warn"]

#: Amounts are whole numbers of nanodollars in Redis' functions, whose numbers are exact up to 2^53.
NANO = 10**9
MOST_USD = 9_000_000
_MOST_TOKENS = 10**15
#: 100,000 USD for a million tokens, far above any model's price: a larger number was most likely meant for a
#: million of them.
_MOST_USD_A_TOKEN = 0.1
_MOST_ALERTS = 5


def _usd(value: object) -> object:
    if value is None:
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is in no range.
    if not plain or not 0 < float(str(value)) <= MOST_USD:
        raise ValueError(f"must be dollars, above 0 and at most {MOST_USD:,}, not {value!r}")
    return float(str(value))


def _unpriced(value: object) -> object:
    if value in ("refuse", "allow"):
        return value
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 < float(str(value)) <= _MOST_USD_A_TOKEN:
        raise ValueError(
            "must be 'refuse', 'allow', or dollars a token, above 0 and at most "
            f"{_MOST_USD_A_TOKEN:g} (0.000002 is 2 USD for a million), not {value!r}"
        )
    return float(str(value))


def _tokens(value: object) -> object:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MOST_TOKENS:
        raise ValueError(f"must be a whole number from 1 to {_MOST_TOKENS:,}, not {value!r}")
    return value


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{value!r} is no time zone; give one of the IANA's names, such as Europe/Berlin"
        ) from None
    return value


def _alerts(value: object) -> object:
    given = list(value) if isinstance(value, list | tuple) else None
    if given is None or len(given) > _MOST_ALERTS or any(type(one) is not int for one in given):
        raise ValueError(f"must be a list of at most {_MOST_ALERTS} whole percents, not {value!r}")
    if any(not 1 <= one <= 100 for one in given) or len(set(given)) != len(given):
        raise ValueError(f"percents are from 1 to 100, each once, not {value!r}")
    return tuple(sorted(given))


class BudgetRule(BaseModel):
    """One budget: what the calls that it matches may take in a period."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    match: LimitMatch = LimitMatch()
    #: A budget of its own for each value; empty: one for all.
    per: tuple[Dimension, ...] = ()
    #: Dollars, or tokens of input and output together.
    usd: Annotated[float | None, BeforeValidator(_usd)] = None
    tokens: Annotated[int | None, BeforeValidator(_tokens)] = None
    #: `run`: of the calls that name the same `budget_run`. A `total` has no end, and neither has a run.
    period: Period = "month"
    timezone: Annotated[str, BeforeValidator(_zone)] = "UTC"
    #: What becomes of a call that has no room: it waits for others to end or for the next period, goes to
    #: another model, is refused, or is made all the same.
    on_exceeded: OnExceeded = "wait"
    #: The models that step in, by patterns of those they step in for. The first that matches counts.
    budget_fallbacks: dict[str, str] = Field(default_factory=dict)
    #: Percents of the budget at which an alert goes out, each once a period.
    alerts: Annotated[tuple[int, ...], BeforeValidator(_alerts)] = (80, 100)
    #: A model without a price: its calls are refused, or not counted, or count as so many dollars a token.
    unpriced: Annotated[Literal["refuse", "allow"] | float, BeforeValidator(_unpriced)] = "refuse"
    #: What a call holds until its end: the `max` that it may cost, or what such calls commonly cost.
    hold: Literal["max", "learned"] = "max"

    @property
    def usd_a_token(self) -> float | None:
        """What a token of a model without a price counts for, in dollars; None where no price was given."""
        return self.unpriced if isinstance(self.unpriced, float) else None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("give usd or tokens, one of the two")
        if self.usd is None and self.usd_a_token is not None:
            raise ValueError(f"unpriced = {self.unpriced!r} is in dollars, and the budget counts tokens")
        if (self.on_exceeded == "degrade") != bool(self.budget_fallbacks):
            raise ValueError("on_exceeded = 'degrade' and budget_fallbacks go together")
        if len(set(self.per)) != len(self.per):
            raise ValueError(f"per names a dimension twice: {', '.join(self.per)}")
        if self.match.agent and not (self.match.guild or self.match.org):
            raise ValueError("match.agent needs match.guild or match.org: agents of two guilds share names")
        for pattern, instead in self.budget_fallbacks.items():
            if self.fallback(instead) is not None:
                raise ValueError(f"budget_fallbacks.{pattern} is {instead!r}, which itself is to be replaced")
        return self

    @property
    def amount(self) -> int:
        """The budget in its unit: nanodollars or tokens."""
        return self.tokens if self.tokens is not None else round((self.usd or 0) * NANO)

    def fallback(self, model: str) -> str | None:
        """The model that steps in for this one."""
        found = (one for pattern, one in self.budget_fallbacks.items() if fnmatchcase(model, pattern))
        return next(found, None)


def parse_budgets(rows: object) -> tuple[BudgetRule, ...]:
    """The rows of `[[budgets]]`. Raises `ValueError` that names the row, the field and the value."""
    if not isinstance(rows, list | tuple):
        raise ValueError(f"budgets is a list of tables, [[budgets]], not {type(rows).__name__}")
    rules: list[BudgetRule] = []
    for index, row in enumerate(rows):
        name = row.get("name") if isinstance(row, Mapping) else None
        where = f"budgets[{index}]" + (f' "{name[:64]}"' if isinstance(name, str) else "")
        rule = row if isinstance(row, BudgetRule) else _parsed(row, where)
        if any(rule.name == earlier.name for earlier in rules):
            raise ValueError(f'budgets[{index}] "{rule.name}": there is a budget of this name already')
        rules.append(rule)
    return tuple(rules)


def _parsed(row: Any, where: str) -> BudgetRule:
    try:
        return BudgetRule.model_validate(row)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain_row(error, BudgetRule, {'match': LimitMatch})}") from None
