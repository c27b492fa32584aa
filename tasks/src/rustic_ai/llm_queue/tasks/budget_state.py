from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .contract import Contract, Seconds

#: Dollars or tokens.
Amount = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]


class BudgetState(Contract):
    """Where a budget stood when a call was let through, or was not."""

    #: As the operators' policy has it; `max_cost_usd` for the limit that the call brought itself.
    name: str
    unit: Literal["usd", "tokens"]
    #: In dollars or tokens: what ended calls took, what calls under way may take at the most, and the whole.
    spent: Amount
    held: Amount
    limit: Amount
    #: Unix time in seconds at which its period ends; None where it has no end.
    resets_at: Seconds | None = None
    #: The call alone may take more than the whole budget: it will not go later either.
    permanent: bool = False

    @property
    def used(self) -> float:
        """The part of the budget that is spent or held, 1 for all of it."""
        return (self.spent + self.held) / self.limit if self.limit else 1.0
