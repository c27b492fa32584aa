from __future__ import annotations

from typing import Literal

from pydantic import Field

from .call import ServiceTier
from .contract import Contract, Seconds
from .error_kind import ErrorKind


class AttemptRecord(Contract):
    """One provider call for a job, as it ended."""

    number: int = Field(ge=1)
    epoch: int = Field(ge=1)
    model: str
    #: `lost` is an attempt whose worker died or gave the job back before it knew the answer.
    status: Literal["ok", "failed", "cancelled", "lost"]
    error: ErrorKind | None = None
    #: HTTP status the provider answered with, None where there was no answer.
    provider_status: int | None = None
    run_time_s: Seconds | None = None
    #: The pause before the next attempt, None where none followed.
    backoff_s: Seconds | None = None
    #: The service tier that had no room: nothing was billed, and it counts as none of the retries.
    full_tier: ServiceTier | None = None
