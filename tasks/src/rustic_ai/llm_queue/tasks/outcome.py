from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from .attempt import AttemptRecord
from .contract import Contract
from .errors import ErrorEnvelope
from .reuse import Cached

#: Costs are kept to the picodollar (10^-12 USD): a token may cost a few nanodollars, and whole numbers
#: add up exactly.
PICO = 12


def _to_the_picodollar(cost_usd: float) -> float:
    # What a response says it cost is what the books have of it: these are kept in whole picodollars.
    return round(cost_usd, PICO)


class Account(Contract):
    """What a job took: shown to operators, so it holds no text of the caller's."""

    attempts: tuple[AttemptRecord, ...] = ()
    #: Seconds between submit and the first claim.
    queue_wait_s: float = 0.0
    #: Seconds between the last claim and the end.
    run_time_s: float = 0.0
    worker: str | None = None
    #: USD by LiteLLM's price map, to the picodollar; None when the model has no price there.
    cost_usd: Annotated[float, AfterValidator(_to_the_picodollar)] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: The stream was cut off before the provider had counted: prompt and completion tokens, and so the
    #: cost, are reckoned from the length of the texts.
    usage_estimated: bool = False
    #: True when a worker was lost with a call under way, so the provider may have billed twice.
    possible_duplicate_charge: bool = False
    #: `hit` when the answer was kept from an earlier call, `flight` when an equal call under way brought it;
    #: this job then cost nothing.
    cached: Cached | None = None
    #: Seconds since the answer came from the provider.
    cache_age_s: float | None = None
    #: USD that the provider's call cost the job that made it, and did not cost this one.
    saved_usd: Annotated[float, AfterValidator(_to_the_picodollar)] | None = None


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
    #: Who asked: `caller`, `operator`, `shutdown`.
    by: str = "caller"


class Expired(Contract):
    """The deadline passed before an answer came."""

    kind: Literal["expired"] = "expired"
    account: Account


#: How a job ended: the closed set.
Outcome = Annotated[Answered | Failed | Cancelled | Expired, Field(discriminator="kind")]
OUTCOME: TypeAdapter[Answered | Failed | Cancelled | Expired] = TypeAdapter(Outcome)
