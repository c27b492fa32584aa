from __future__ import annotations


class ClientError(Exception):
    """What an engine raises. Callers get a `QueueError` instead: see `call.client_errors`."""


class QueueGone(ClientError):
    """Redis cannot be reached, or refuses: the message says which and what to do."""


class WaitTimeout(ClientError):
    """The deadline passed before the job ended."""


class SubmitConflict(ClientError):
    """The idempotency key stands for another request."""
