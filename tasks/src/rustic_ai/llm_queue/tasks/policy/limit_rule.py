"""`[[limits]]` of the policy file: what calls share, and how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .row_errors import explain_row

#: What a call has that a limit may match, or be split by; the narrow ones first, in the order in which
#: a call passes its limits.
Dimension = Literal["agent", "guild", "org", "deployment", "model", "provider", "credential"]
DIMENSIONS: tuple[Dimension, ...] = (
    "agent", "guild", "org", "deployment", "model", "provider", "credential",
)  # fmt: skip
_LARGEST = 10**9
_STOP = 'to stop a model use allowed_models or "llm-queue pause"'


def _whole(value: object) -> object:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f"must be a whole number from 1 to {_LARGEST:,}, not {value!r}; {_STOP}")
    return value


def _patterns(value: object) -> object:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        raise ValueError(f"must be a pattern or a list of them, not {value!r}")
    if any(not one.strip() or one != one.strip() for one in given):
        raise ValueError(f"{value!r} matches nothing: a pattern has text, and no space around it")
    return tuple(given)


Count = Annotated[int | None, BeforeValidator(_whole)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitMatch(_Row):
    """The calls that a limit is for: patterns, of which each dimension that is named needs one to match."""

    agent: Patterns = ()
    guild: Patterns = ()
    org: Patterns = ()
    deployment: Patterns = ()
    #: Held against the model's name as the call gives it, `provider/model`, and the model without a provider.
    model: Patterns = ()
    provider: Patterns = ()
    #: `worker` for the workers' own keys, `job` for a key that a job brings.
    credential: Patterns = ()

    def admits(self, call: Mapping[Dimension, Sequence[str]]) -> bool:
        """Whether a call with these values is one of them."""
        return all(
            any(fnmatchcase(value, pattern) for value in call.get(dimension, ()) for pattern in patterns)
            for dimension, patterns in self.named.items()
        )

    @property
    def named(self) -> dict[Dimension, tuple[str, ...]]:
        """The patterns, by the dimensions that have some."""
        return {name: patterns for name in DIMENSIONS if (patterns := getattr(self, name))}

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        for pattern in self.credential:
            if not any(fnmatchcase(kind, pattern) for kind in ("worker", "job")):
                raise ValueError(f"credential {pattern!r} can never match: it is 'worker' or 'job'")
        return self


class LimitLearning(_Row):
    """What a limit takes from the provider's own headers."""

    #: `tighten`: less is left than we thought; `auto`: the limit is the provider's; `off`: nothing.
    headers: Literal["off", "tighten", "auto"] = "tighten"


class LimitRule(_Row):
    """One limit: so many requests and tokens a minute, so many calls at once."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    match: LimitMatch = LimitMatch()
    #: A limit of its own for each value; empty: one for all.
    per: tuple[Dimension, ...] = ()
    #: Requests, and tokens, a minute. `tpm` counts input and output together.
    rpm: Count = None
    tpm: Count = None
    itpm: Count = None
    otpm: Count = None
    max_parallel_requests: Count = None
    #: Requests that may go at once, `auto`: a hundredth of a minute's.
    burst: Literal["auto"] | Annotated[int, BeforeValidator(_whole)] = "auto"
    #: Output tokens that are reserved: `max` the call's limit, `actual` what such calls commonly use;
    #: `auto`: `max` where the provider counts so itself.
    count: Literal["auto", "max", "actual"] = "auto"
    #: A call of more tokens than a minute has: goes `alone`, or is `refuse`d.
    oversize: Literal["alone", "refuse"] = "alone"
    learn: LimitLearning = LimitLearning()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rates = (self.rpm, self.tpm, self.itpm, self.otpm, self.max_parallel_requests)
        if not any(rates) and self.learn.headers != "auto":
            raise ValueError(
                "limits nothing: give rpm, tpm, itpm, otpm, max_parallel_requests, or learn.headers = 'auto'"
            )
        if self.tpm and (self.itpm or self.otpm):
            raise ValueError("tpm counts input and output together: give it, or itpm and otpm")
        if self.burst != "auto":
            if self.rpm is None:
                raise ValueError("burst counts requests, and there is no rpm")
            if self.burst > self.rpm:
                raise ValueError(f"burst {self.burst} is above rpm {self.rpm}")
        if len(set(self.per)) != len(self.per):
            raise ValueError(f"per names a dimension twice: {', '.join(self.per)}")
        return self

    @property
    def narrowness(self) -> int:
        """The place of this limit among those of a call: narrow ones are passed before wide ones."""
        dimensions = {*self.per, *self.match.named}
        return next((at for at, one in enumerate(DIMENSIONS) if one in dimensions), len(DIMENSIONS))


def parse_limits(rows: object) -> tuple[LimitRule, ...]:
    """The rows of `[[limits]]`. Raises `ValueError` that names the row, the field and the value."""
    if not isinstance(rows, list | tuple):
        raise ValueError(f"limits is a list of tables, [[limits]], not {type(rows).__name__}")
    rules: list[LimitRule] = []
    for index, row in enumerate(rows):
        if isinstance(row, LimitRule):
            rule = row
        else:
            name = row.get("name") if isinstance(row, Mapping) else None
            where = f"limits[{index}]" + (f' "{name[:64]}"' if isinstance(name, str) else "")
            rule = _parsed(row, where)
        if any(rule.name == earlier.name for earlier in rules):
            raise ValueError(f'limits[{index}] "{rule.name}": there is a limit of this name already')
        rules.append(rule)
    return tuple(rules)


def _parsed(row: Any, where: str) -> LimitRule:
    try:
        return LimitRule.model_validate(row)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain_row(error, LimitRule, {'match': LimitMatch})}") from None
