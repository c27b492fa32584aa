from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from .attempt import AttemptRecord
from .budget_state import BudgetState
from .contract import Contract, Seconds
from .errors import ErrorEnvelope
from .reuse.options import Cached
from .usage import Usage, UsDollars


class Account(Usage):
    """What a job took: shown to operators, so it holds no text of the caller's."""

    attempts: tuple[AttemptRecord, ...] = ()
    #: Seconds between submit and the first claim.
    queue_wait_s: Seconds = 0.0
    #: Seconds between the last claim and the end.
    run_time_s: Seconds = 0.0
    worker: str | None = None
    #: Seconds it waited for limits, and the name of the latest of them.
    limited_s: Seconds = 0.0
    limited_by: str | None = None
    #: Of the budgets that the answered call passed, the one with the least left.
    budget: BudgetState | None = None
    #: True when a worker was lost with a call under way, so the provider may have billed twice.
    possible_duplicate_charge: bool = False
    #: `hit` when the answer was kept from an earlier call, `flight` when an equal call under way brought it;
    #: this job then cost nothing.
    cached: Cached | None = None
    #: Of a job for embeddings, the texts whose vectors were kept from earlier calls.
    cached_texts: int = 0
    #: Seconds since the answer came from the provider.
    cache_age_s: Seconds | None = None
    #: USD that the provider's call cost the job that made it, and did not cost this one.
    saved_usd: UsDollars = None


class Answered(Contract):
    kind: Literal["answered"] = "answered"
    account: Account
    #: The model that answered; a fallback's when one stepped in.
    model: str
    #: LiteLLM's response as OpenAI's `chat.completion` JSON, sealed on the wire.
    response: dict[str, Any] = Field(repr=False)


class Failed(Contract):
    kind: Literal["failed"] = "failed"
    account: Account
    error: ErrorEnvelope


class Cancelled(Contract):
    kind: Literal["cancelled"] = "cancelled"
    account: Account
    #: The party that cancelled: `caller`, `operator`, `shutdown`, or `reaper` for a caller that is gone.
    by: str = "caller"


class Expired(Contract):
    """The deadline passed before an answer came."""

    kind: Literal["expired"] = "expired"
    account: Account


#: How a job ended: the closed set.
Outcome = Annotated[Answered | Failed | Cancelled | Expired, Field(discriminator="kind")]
OUTCOME: TypeAdapter[Answered | Failed | Cancelled | Expired] = TypeAdapter(Outcome)
