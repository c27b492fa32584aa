from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a job, or one attempt of it, failed. The closed set both sides agree on."""

    BAD_REQUEST = "bad_request"
    AUTHENTICATION = "authentication"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMIT = "rate_limit"
    INTERNAL_SERVER = "internal_server"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    RESPONSE_PROCESSING = "response_processing"

    # What only a queue can answer with.
    WORKER_LOST = "worker_lost"
    WORKER_FAULT = "worker_fault"
    STREAM_IDLE = "stream_idle"
    STREAM_TOO_LARGE = "stream_too_large"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    ENDPOINT_NOT_ALLOWED = "endpoint_not_allowed"
    CREDENTIAL_REQUIRED = "credential_required"
    LIMIT_EXCEEDED = "limit_exceeded"
    INVALID_RECORD = "invalid_record"
