from __future__ import annotations

from enum import Enum, StrEnum
from typing import Self


class Next(Enum):
    """What follows a failed attempt."""

    RETRY = "retry"
    #: This model will not answer however often it is asked; another one may.
    FALL_BACK = "fall back"
    #: No model would answer.
    GIVE_UP = "give up"


class ErrorKind(StrEnum):
    """Why a job, or one attempt of it, failed. The closed set both sides agree on.

    Each kind carries what follows from it, so that no other table spells the kinds out:

    Attributes:
        follows: what a worker does next while tries and models are left.
        status: the HTTP status with which a provider usually says so; None where it says nothing.
        sent: whether a provider may have been asked. False: it was refused before that, and costs nothing.
    """

    follows: Next
    status: int | None
    sent: bool

    BAD_REQUEST = "bad_request", Next.FALL_BACK, 400
    AUTHENTICATION = "authentication", Next.FALL_BACK, 401
    PERMISSION_DENIED = "permission_denied", Next.FALL_BACK, 403
    NOT_FOUND = "not_found", Next.FALL_BACK, 404
    CONFLICT = "conflict", Next.RETRY, 409
    UNPROCESSABLE = "unprocessable", Next.FALL_BACK, 422
    RATE_LIMIT = "rate_limit", Next.RETRY, 429
    INTERNAL_SERVER = "internal_server", Next.RETRY, 500
    CONTEXT_WINDOW = "context_window", Next.FALL_BACK, 400
    CONTENT_POLICY = "content_policy", Next.FALL_BACK, 400
    CONNECTION = "connection", Next.RETRY
    TIMEOUT = "timeout", Next.RETRY
    RESPONSE_PROCESSING = "response_processing", Next.RETRY

    # Only a queue can answer with these.
    WORKER_LOST = "worker_lost", Next.GIVE_UP
    WORKER_FAULT = "worker_fault", Next.GIVE_UP
    STREAM_IDLE = "stream_idle", Next.RETRY
    STREAM_TOO_LARGE = "stream_too_large", Next.GIVE_UP
    ANSWER_TOO_LARGE = "answer_too_large", Next.GIVE_UP
    MODEL_NOT_ALLOWED = "model_not_allowed", Next.GIVE_UP, None, False
    ENDPOINT_NOT_ALLOWED = "endpoint_not_allowed", Next.GIVE_UP, None, False
    CREDENTIAL_REQUIRED = "credential_required", Next.GIVE_UP, None, False
    LIMIT_EXCEEDED = "limit_exceeded", Next.GIVE_UP, None, False
    BUDGET_EXCEEDED = "budget_exceeded", Next.FALL_BACK, None, False
    INVALID_RECORD = "invalid_record", Next.GIVE_UP, None, False

    def __new__(cls, text: str, follows: Next, status: int | None = None, sent: bool = True) -> Self:
        kind = str.__new__(cls, text)
        kind._value_ = text
        kind.follows, kind.status, kind.sent = follows, status, sent
        return kind

    @classmethod
    def by_status(cls) -> dict[int, ErrorKind]:
        """The kind that a provider's HTTP status means, where nothing more is known about it."""
        kinds: dict[int, ErrorKind] = {}
        for kind in cls:
            if kind.status is not None:
                # The first kind of a status is the general one.
                kinds.setdefault(kind.status, kind)
        return kinds
