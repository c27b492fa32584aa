from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..contract import Contract
from ..duration import Duration
from ..error_kind import ErrorKind, Next

#: Which calls may share an answer: one agent's, one guild's or one organisation's. Never wider.
CacheScope = Literal["agent", "guild", "org"]
#: The words of HTTP's Cache-Control and of LiteLLM: `no-cache` asks anew and keeps the answer, `no-store`
#: takes an answer that is there and keeps none, `off` does neither.
CacheMode = Literal["default", "no-cache", "no-store", "off"]
#: How an answer came without a provider's call of its own.
Cached = Literal["hit", "flight"]

#: A flight that failed for this many leaders fails for its followers, too: without a bound each of them
#: would make all of its retries, one after the other.
MOST_HANDOVERS = 2

LONGEST_CACHE_TTL_S = timedelta(days=30).total_seconds()


class ReuseOptions(Contract):
    """What a call asks of answers that are there already, or on their way. Travels sealed, in the call."""

    #: Wait for the answer of an equal call that is under way, instead of making a second one.
    single_flight: bool = False
    #: Seconds for which the answer is kept for equal calls; 0 keeps none and looks for none.
    cache_ttl_s: float = Field(default=0.0, ge=0, le=LONGEST_CACHE_TTL_S, allow_inf_nan=False)
    cache_scope: CacheScope = "guild"
    cache: CacheMode = "default"
    #: Calls with different ones are never equal: a caller that wants several answers numbers them.
    cache_key_extra: str = Field(default="", max_length=512, repr=False)

    @property
    def reads(self) -> bool:
        """Whether an answer that is kept will do."""
        return self.cache_ttl_s > 0 and self.cache in ("default", "no-store")

    @property
    def writes(self) -> bool:
        """Whether the answer is to be kept."""
        return self.cache_ttl_s > 0 and self.cache in ("default", "no-cache")

    @property
    def asked(self) -> bool:
        """Whether the call asks for any of it."""
        return self.single_flight or self.reads or self.writes


class CachePolicy(BaseModel):
    """What calls may ask of the cache: the table `[cache]` of the policy file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Longest `cache_ttl_s` a call may ask for.
    max_ttl: Duration = Field(default=timedelta(days=30), ge=timedelta(0), le=timedelta(days=30))
    #: Largest answer that is kept, in bytes of JSON.
    max_bytes: int = Field(default=256_000, ge=1_000)
    #: The scopes that calls may ask for.
    scopes: tuple[CacheScope, ...] = ("agent", "guild", "org")
    #: Most answers kept for one scope; beyond them those go that were not asked for the longest.
    max_entries: int = Field(default=10_000, ge=1)


def fails_for_all(kind: ErrorKind) -> bool:
    """Whether every equal call would fail in the same way, so that none has to be made to see it.

    What is refused before it is sent is refused to one job: another may have room in its own budget, wait
    for a limit where this one may not, or name no most that it may cost.
    """
    of_the_worker = kind in (ErrorKind.WORKER_LOST, ErrorKind.WORKER_FAULT)
    return kind.sent and kind.follows is not Next.RETRY and not of_the_worker


def shares_failure(kind: ErrorKind, *, called: bool, handovers: int) -> bool:
    """Whether a leader's followers get its failure, instead of the next of them leading.

    Args:
        called: it has called a provider; what cost nothing need not be bounded.
        handovers: how often the flight was handed over before it.
    """
    return fails_for_all(kind) or (called and handovers >= MOST_HANDOVERS)
