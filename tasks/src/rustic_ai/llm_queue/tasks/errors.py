from __future__ import annotations

from pydantic import Field

from .budget_state import BudgetState
from .contract import Contract, Seconds
from .error_kind import ErrorKind


class ErrorEnvelope(Contract):
    """An error as it crosses the queue: small, plain, free of secrets and of the prompt.

    Never a pickled or a provider's exception: LiteLLM's do not survive a queue, and they echo keys.
    """

    kind: ErrorKind
    #: Scrubbed of keys and shortened by the worker before it is written. It may echo the prompt.
    message: str = Field(max_length=4_000, repr=False)
    #: HTTP status the provider answered with, None where there was no answer.
    provider_status: int | None = None
    provider: str | None = None
    model: str | None = None
    #: The provider's own machine-readable code, such as `insufficient_quota`.
    code: str | None = None
    param: str | None = None
    retry_after_s: Seconds | None = None
    #: The budget that has no room for the call.
    budget: BudgetState | None = None


class JobFailed(Exception):
    """A job ended without an answer. What Celery and Flower show of a failed task."""
