from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from ..duration import Duration
from .row_errors import explain_row

#: A worker takes so many wake-ups at once: a shorter window would leave its places empty.
SHORTEST_WINDOW = 16
MOST_WEIGHT = 1_000
#: The rest of the places is what everybody else's jobs run in.
MOST_RESERVED = 0.9


def _part(value: object) -> object:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is in no range.
    if not plain or not 0 <= float(str(value)) <= MOST_RESERVED:
        raise ValueError(
            f"must be a part of a worker's places, from 0 to {MOST_RESERVED} (0.1 is a tenth), not {value!r}"
        )
    return float(str(value))


class FairShare(BaseModel):
    """Whose turn is next where more jobs wait than run: `[fair_share]` of the policy file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Shares by `org` and by `org/guild`, and `*` for any other organisation. A guild's is of its
    #: organisation's.
    weights: dict[str, Annotated[float, Field(gt=0, le=MOST_WEIGHT, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    #: What a job takes of its share: its tokens, those of the answer fourfold, or one each.
    cost: Literal["tokens", "jobs"] = "tokens"
    #: Wake-ups of a priority that lie ready for workers; what is in there goes by the order of arrival.
    ready_window: int = 64
    #: After so long in one priority a job goes up to the next.
    ageing: Duration = Field(default=timedelta(seconds=60), ge=timedelta(seconds=1))
    #: The part of each worker's places that it keeps for organisations of which it runs nothing.
    reserve: Annotated[float, BeforeValidator(_part)] = 0.0

    @field_validator("ready_window")
    @classmethod
    def _feeds_a_worker(cls, window: int) -> int:
        if window < SHORTEST_WINDOW:
            raise ValueError(
                f"{window} is below {SHORTEST_WINDOW}, which one worker takes at once; "
                f"{SHORTEST_WINDOW} or more keep it busy"
            )
        return window

    def fields(self) -> dict[str, str]:
        """The policy as the ledger's functions read it."""
        weights = {f"weight:{name}": repr(weight) for name, weight in self.weights.items()}
        return {"window": str(self.ready_window), "cost": self.cost, **weights}


def parse_fair_share(table: object) -> FairShare:
    """The table `[fair_share]`. Raises `ValueError` that names the field and the value."""
    if isinstance(table, FairShare):
        return table
    if not isinstance(table, dict):
        raise ValueError(f"fair_share is a table, [fair_share], not {type(table).__name__}")
    try:
        return FairShare.model_validate(table)
    except ValidationError as error:
        raise ValueError(f"[fair_share]: {explain_row(error, FairShare)}") from None
