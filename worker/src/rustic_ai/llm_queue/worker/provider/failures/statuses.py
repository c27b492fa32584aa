from __future__ import annotations

from collections.abc import Mapping

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

_BY_STATUS: Mapping[int, ErrorKind] = {
    **ErrorKind.by_status(),
    # The account lacks credit, the request is fine.
    402: ErrorKind.PERMISSION_DENIED,
    408: ErrorKind.TIMEOUT,
    # Too early: the provider asks to send it again.
    425: ErrorKind.INTERNAL_SERVER,
    # Groq's word for "no capacity just now".
    498: ErrorKind.INTERNAL_SERVER,
    504: ErrorKind.TIMEOUT,
}


def kind_of_status(status: int) -> ErrorKind:
    """The kind that a provider's HTTP status means where nothing else is known."""
    usual = ErrorKind.INTERNAL_SERVER if status >= 500 else ErrorKind.BAD_REQUEST
    return _BY_STATUS.get(status, usual)
