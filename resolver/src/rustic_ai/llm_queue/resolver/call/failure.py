from __future__ import annotations

from typing import Any

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Cancelled, Expired, Failed

from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    CredentialRequired,
    EndpointNotAllowed,
    InternalServerError,
    InvalidRecord,
    JobCancelled,
    JobTimeout,
    LimitExceeded,
    ModelNotAllowed,
    NotFoundError,
    PermissionDeniedError,
    QueueError,
    RateLimitError,
    ResponseProcessingError,
    StreamIdle,
    StreamTooLarge,
    UnprocessableEntityError,
    WorkerFault,
    WorkerLost,
)

#: The class for each reason a worker gives.
BY_KIND: dict[ErrorKind, type[QueueError]] = {
    ErrorKind.BAD_REQUEST: BadRequestError,
    ErrorKind.AUTHENTICATION: AuthenticationError,
    ErrorKind.PERMISSION_DENIED: PermissionDeniedError,
    ErrorKind.NOT_FOUND: NotFoundError,
    ErrorKind.CONFLICT: ConflictError,
    ErrorKind.UNPROCESSABLE: UnprocessableEntityError,
    ErrorKind.RATE_LIMIT: RateLimitError,
    ErrorKind.INTERNAL_SERVER: InternalServerError,
    ErrorKind.CONTEXT_WINDOW: ContextWindowExceededError,
    ErrorKind.CONTENT_POLICY: ContentPolicyViolationError,
    ErrorKind.CONNECTION: APIConnectionError,
    ErrorKind.TIMEOUT: APITimeoutError,
    ErrorKind.RESPONSE_PROCESSING: ResponseProcessingError,
    ErrorKind.WORKER_LOST: WorkerLost,
    ErrorKind.WORKER_FAULT: WorkerFault,
    ErrorKind.STREAM_IDLE: StreamIdle,
    ErrorKind.STREAM_TOO_LARGE: StreamTooLarge,
    ErrorKind.MODEL_NOT_ALLOWED: ModelNotAllowed,
    ErrorKind.ENDPOINT_NOT_ALLOWED: EndpointNotAllowed,
    ErrorKind.CREDENTIAL_REQUIRED: CredentialRequired,
    ErrorKind.LIMIT_EXCEEDED: LimitExceeded,
    ErrorKind.INVALID_RECORD: InvalidRecord,
}


def to_exception(outcome: Failed | Cancelled | Expired, *, job_id: str, model: str) -> QueueError:
    """The exception for a job that ended without an answer.

    Args:
        model: the model that was asked for.
    """
    account = outcome.account
    last = account.attempts[-1].model if account.attempts else model
    about: dict[str, Any] = {
        "job_id": job_id,
        "model": last,
        "attempts": account.attempts,
        "account": account,
    }
    match outcome:
        case Failed(error=error):
            facts = error.model_dump(exclude={"message"} if error.model else {"message", "model"})
            return BY_KIND[error.kind](error.message, **{**about, **facts})
        case Cancelled(by=by):
            return JobCancelled(f"The job was cancelled by {by}.", **about)
        case Expired():
            return JobTimeout(**about)
