"""What a call through the queue can raise.

* QueueError                          core's `APIError`; every one below is an `openai` class, too
  + BadRequestError                   400
    - ContextWindowExceededError      1001, "context length" is in the message
    - ContentPolicyViolationError     1002
    - LimitExceeded                   400, a limit of the queue's
      . StreamTooLarge
      . AnswerTooLarge
    - InvalidRequest                  400, refused before it was queued; a `ValueError`, too
  + AuthenticationError               401
    - CredentialRequired
  + PermissionDeniedError             403
    - ModelNotAllowed
    - EndpointNotAllowed
  + NotFoundError                     404
    - JobNotFound
    - StreamExpired
  + ConflictError                     409
    - IdempotencyConflict
  + JobCancelled                      409
  + UnprocessableEntityError          422
  + RateLimitError                    429, "rate limit" is in the message
    - BudgetExceeded
  + InternalServerError               500, and any other status of a provider's
    - ResponseProcessingError         1005
    - WorkerLost
    - WorkerFault
    - InvalidRecord
  + APIConnectionError                1003
    - QueueUnavailable
    - StreamRestarted
    - APITimeoutError                 1004
      . JobTimeout                    the call's own deadline
      . StreamIdle
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import openai
from rustic_ai.core.guild.agent_ext.depends.llm.models import APIError as CoreAPIError

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.budget_state import BudgetState
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind as ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Account

if TYPE_CHECKING:
    from .response import QueueChatCompletionResponse

#: The class of each kind of failure that a worker reports. Filled by the classes, which name their kind.
BY_KIND: dict[ErrorKind, type[QueueError]] = {}

#: The URL of a response that never came over HTTP.
_NO_URL = "https://llm-queue.invalid/v1/chat/completions"


class QueueError(CoreAPIError):
    """The completion failed.

    Attributes:
        message: what went wrong, without a secret.
        status_code: always one of core's `ResponseCodes`.
        provider_status: the HTTP status the provider answered with, None where it did not.
        kind: why, as the worker reported it; None where no worker did.
        job_id: None where no job was made.
        model: the model of the last attempt, or the one asked for.
        attempts: the provider calls made.
        account: what the job took, tokens and cost included; None where no worker reported it.
        retry_after_s: seconds the provider asked to wait.
        budget: the budget that had no room, of a `BudgetExceeded`; else None.
    """

    # Any, because core's class and the openai ones declare these differently.
    status_code: Any = 500
    body: Any
    response: Any
    type: Any
    #: A phrase that callers search for in the message; put before a message that lacks it.
    phrase: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: ErrorKind | None = None) -> None:
        """
        Args:
            kind: the kind of failure that is raised as this class.
        """
        super().__init_subclass__()
        if kind is not None:
            BY_KIND[kind] = cls

    def __init__(
        self,
        message: str = "",
        *,
        kind: ErrorKind | None = None,
        job_id: str | None = None,
        model: str | None = None,
        attempts: Iterable[AttemptRecord] = (),
        account: Account | None = None,
        provider: str | None = None,
        provider_status: int | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
        param: str | None = None,
        budget: BudgetState | None = None,
    ) -> None:
        message = message or inspect.cleandoc(type(self).__doc__ or "").partition("\n")[0]
        if self.phrase not in message.lower():
            message = f"{self.phrase.capitalize()}: {message}"
        Exception.__init__(self, message)
        self.message = message
        self.kind = kind
        self.job_id = job_id
        self.model = model
        self.attempts = tuple(attempts)
        self.account = account
        self.provider = provider
        self.provider_status = provider_status
        self.retry_after_s = retry_after_s
        self.budget = budget
        # The other attributes of an openai error, whose own constructors need a response.
        self.code = code
        self.param = param
        self.type = str(kind or type(self).__name__)
        self.body = {"message": message, "type": self.type, "code": code, "param": param}
        self.request = httpx.Request("POST", _NO_URL)
        self.request_id = job_id
        self.response = self._response() if isinstance(self, openai.APIStatusError) else None

    def _response(self) -> httpx.Response:
        status = self.provider_status or (self.status_code if self.status_code < 1000 else 400)
        headers = {} if self.retry_after_s is None else {"retry-after": f"{self.retry_after_s:g}"}
        return httpx.Response(status, headers=headers, json={"error": self.body}, request=self.request)

    def __str__(self) -> str:
        facts = [f"{name} {value}" for name, value in (("job", self.job_id), ("model", self.model)) if value]
        if len(self.attempts) > 1:
            facts.append(f"{len(self.attempts)} attempts")
        return f"{self.message} [{', '.join(facts)}]" if facts else self.message

    def __repr__(self) -> str:
        names = ("kind", "status_code", "provider_status", "job_id", "model", "retry_after_s")
        facts = (f"{name}={value!r}" for name in names if (value := getattr(self, name)) is not None)
        return f"{type(self).__name__}({self.message!r}, {', '.join(facts)})"


class BadRequestError(QueueError, openai.BadRequestError, kind=ErrorKind.BAD_REQUEST):
    """The provider refused the request."""

    status_code = 400


class ContextWindowExceededError(BadRequestError, kind=ErrorKind.CONTEXT_WINDOW):
    """The prompt is longer than the model's context length."""

    status_code = 1001
    phrase = "context length"


class ContentPolicyViolationError(BadRequestError, kind=ErrorKind.CONTENT_POLICY):
    """The provider's content policy refused the request."""

    status_code = 1002


class LimitExceeded(BadRequestError, kind=ErrorKind.LIMIT_EXCEEDED):
    """The request goes beyond a limit the workers set."""


class StreamTooLarge(LimitExceeded, kind=ErrorKind.STREAM_TOO_LARGE):
    """The answer grew beyond what a stream may hold."""


class AnswerTooLarge(LimitExceeded, kind=ErrorKind.ANSWER_TOO_LARGE):
    """The provider's answer, or one line of its stream, is longer than workers take."""


class InvalidRequest(BadRequestError, ValueError):
    """The request cannot be sent. Nothing was queued."""


class AuthenticationError(QueueError, openai.AuthenticationError, kind=ErrorKind.AUTHENTICATION):
    """The provider did not accept the key."""

    status_code = 401


class CredentialRequired(AuthenticationError, kind=ErrorKind.CREDENTIAL_REQUIRED):
    """The worker has no key for this provider or endpoint."""


class PermissionDeniedError(QueueError, openai.PermissionDeniedError, kind=ErrorKind.PERMISSION_DENIED):
    """The provider denied the permission."""

    status_code = 403


class ModelNotAllowed(PermissionDeniedError, kind=ErrorKind.MODEL_NOT_ALLOWED):
    """The workers' policy does not allow this model."""


class EndpointNotAllowed(PermissionDeniedError, kind=ErrorKind.ENDPOINT_NOT_ALLOWED):
    """The workers' policy does not allow this base URL."""


class NotFoundError(QueueError, openai.NotFoundError, kind=ErrorKind.NOT_FOUND):
    """The provider knows no such model or resource."""

    status_code = 404


class JobNotFound(NotFoundError):
    """No job of this agent has this id, or it is no longer kept."""


class StreamExpired(NotFoundError):
    """The stream is no longer kept.

    Attributes:
        result: the answer, where it is kept longer than its stream was; otherwise None.
    """

    def __init__(
        self, message: str = "", *, result: QueueChatCompletionResponse | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.result = result


class ConflictError(QueueError, openai.ConflictError, kind=ErrorKind.CONFLICT):
    """The provider reported a conflict."""

    status_code = 409


class IdempotencyConflict(ConflictError):
    """The idempotency key stands for another request."""


class JobCancelled(QueueError, openai.APIStatusError):
    """The job was cancelled."""

    status_code = 409


class UnprocessableEntityError(QueueError, openai.UnprocessableEntityError, kind=ErrorKind.UNPROCESSABLE):
    """The provider could not process the request."""

    status_code = 422


class RateLimitError(QueueError, openai.RateLimitError, kind=ErrorKind.RATE_LIMIT):
    """The provider's rate limit was hit."""

    status_code = 429
    phrase = "rate limit"


class BudgetExceeded(RateLimitError, kind=ErrorKind.BUDGET_EXCEEDED):
    """A budget has no room for the call.

    Attributes:
        budget: the operators', or the call's own: name, unit, what is spent and held, the whole, and when it
            resets; None where the model has no price.
    """

    @property
    def permanent(self) -> bool:
        """The same call would be refused later, too."""
        return self.budget is None or self.budget.permanent


class InternalServerError(QueueError, openai.InternalServerError, kind=ErrorKind.INTERNAL_SERVER):
    """The provider failed."""

    status_code = 500


class ResponseProcessingError(InternalServerError, kind=ErrorKind.RESPONSE_PROCESSING):
    """The provider's answer could not be understood."""

    status_code = 1005


class WorkerLost(InternalServerError, kind=ErrorKind.WORKER_LOST):
    """The worker was lost, and no try is left."""


class WorkerFault(InternalServerError, kind=ErrorKind.WORKER_FAULT):
    """The worker failed: an error of its own, not of the provider's."""


class InvalidRecord(InternalServerError, kind=ErrorKind.INVALID_RECORD):
    """The job's record on Redis cannot be read."""


class APIConnectionError(QueueError, openai.APIConnectionError, kind=ErrorKind.CONNECTION):
    """The provider could not be reached."""

    status_code = 1003


class QueueUnavailable(APIConnectionError):
    """The queue could not be reached."""


class StreamRestarted(APIConnectionError):
    """The answer began anew after its first words, and this reader refuses that."""


class APITimeoutError(APIConnectionError, openai.APITimeoutError, kind=ErrorKind.TIMEOUT):
    """The provider did not answer in time."""

    status_code = 1004


class JobTimeout(APITimeoutError):
    """The call's timeout passed before an answer came."""


class StreamIdle(APITimeoutError, kind=ErrorKind.STREAM_IDLE):
    """The provider's stream stood still for too long."""
