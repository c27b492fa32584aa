"""What the ledger's functions answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ..job import JobRecord

SubmitVerdict = Literal["created", "exists", "conflict"]
ClaimVerdict = Literal[
    "granted", "missing", "final", "withdrawn", "leased", "expired", "exhausted", "reserved"
]
FinishVerdict = Literal["done", "already", "stale"]
CancelVerdict = Literal["cancelled", "cancelling", "running", "ended", "missing"]
HandBackVerdict = Literal["queued", "cancelled", "lost", "stale"]
AdmitVerdict = Literal["granted", "waits", "refused", "cancelled", "stale"]
PauseVerdict = Literal["queued", "cancelled", "stale"]
StopReason = Literal["lost", "cancelled"]
ReapVerdict = Literal["requeued", "cancelled", "lost", "expired", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. `record` is there for granted, expired and exhausted."""

    verdict: ClaimVerdict
    now_ms: int
    record: JobRecord | None = None
    #: Why a granted record cannot be run: a `ContractViolation` when it does not validate, any other
    #: exception when the reading itself failed. It is claimed all the same.
    violation: Exception | None = None
    #: Known even where the record does not validate.
    epoch: int = 0
    #: For how much longer an earlier holder may take it back, of a job that is reserved for it.
    reserved_for: timedelta = timedelta(0)
    #: Some provider's limit, or one that an operator paused, is closed to all workers.
    limits_closed: bool = False


@dataclass(frozen=True, slots=True)
class BudgetAmounts:
    """Where a budget stands, in nanodollars or tokens."""

    spent: int
    held: int
    limit: int


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to `admit`. All but the verdict is there for jobs that wait or were refused."""

    verdict: AdmitVerdict
    #: The id of the limit that has no room.
    limit: str | None = None
    #: When it has, as far as time alone decides it.
    retry_after: timedelta | None = None
    #: Jobs that wait there before this one.
    ahead: int = 0
    #: Of each budget among the limits in their order, or of the one that has no room.
    budgets: tuple[BudgetAmounts, ...] = ()


@dataclass(frozen=True)
class Renewal:
    """The answer to a renewal: when it was, on Redis' clock, and the jobs to stop, and why."""

    now_ms: int
    stop: dict[str, StopReason]
