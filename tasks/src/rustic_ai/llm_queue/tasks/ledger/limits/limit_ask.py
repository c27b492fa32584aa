from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LimitAsk:
    """What a provider call asks of one limit: the limit's rates, and the call's share of them.

    A rate is its emission interval, the µs that one request or token takes of the bucket, and its burst,
    the µs that may go at once; an interval of 0 is no limit.
    """

    #: `keys.limit_id`.
    id: str
    request_us: float = 0
    request_burst_us: int = 0
    token_us: float = 0
    token_burst_us: int = 0
    #: Tokens that count in `token_us`: input and output, or with `counts="input"` the input alone.
    tokens: int = 0
    output_us: float = 0
    output_burst_us: int = 0
    outputs: int = 0
    #: Calls that may run at once; 0 for any number.
    most_running: int = 0
    counts: Literal["all", "input"] = "all"

    def words(self) -> tuple[str | int | float, ...]:
        """The arguments of `admit` for this limit, in the order of `limits.lua`."""
        return (
            self.id, self.counts, self.request_us, self.request_burst_us, self.token_us, self.token_burst_us,
            self.tokens, self.output_us, self.output_burst_us, self.outputs, self.most_running,
        )  # fmt: skip
