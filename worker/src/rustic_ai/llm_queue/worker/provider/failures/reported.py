"""Errors that a provider reports in the body of an answer whose status is 200, or inside a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from ..answers.finish_reasons import is_failure
from .kinds import ProviderFault
from .statuses import kind_of_status

K = ErrorKind
#: The words of OpenAI, Anthropic and Google for what went wrong, in small letters.
BY_WORD: Mapping[str, ErrorKind] = {
    "authentication_error": K.AUTHENTICATION,
    "content_filter": K.CONTENT_POLICY,
    "content_policy_violation": K.CONTENT_POLICY,
    "context_length_exceeded": K.CONTEXT_WINDOW,
    "deadline_exceeded": K.TIMEOUT,
    "insufficient_quota": K.RATE_LIMIT,
    "invalid_api_key": K.AUTHENTICATION,
    "invalid_argument": K.BAD_REQUEST,
    "invalid_request_error": K.BAD_REQUEST,
    "model_not_found": K.NOT_FOUND,
    "not_found": K.NOT_FOUND,
    "not_found_error": K.NOT_FOUND,
    "permission_denied": K.PERMISSION_DENIED,
    "permission_error": K.PERMISSION_DENIED,
    "rate_limit_error": K.RATE_LIMIT,
    "rate_limit_exceeded": K.RATE_LIMIT,
    "request_too_large": K.BAD_REQUEST,
    "resource_exhausted": K.RATE_LIMIT,
    "timeout_error": K.TIMEOUT,
    "unauthenticated": K.AUTHENTICATION,
}
_STATUSES = ("code", "status_code", "http_status_code", "status")
_WORDS = ("code", "status", "type")
_ANSWERS = ("choices", "candidates", "content", "message", "output")


class ReportedError(ProviderFault):
    """The provider answered with status 200, or began a stream, and reported an error in it."""

    def __init__(self, message: str, body: Mapping[str, Any], kind: ErrorKind) -> None:
        super().__init__(message)
        #: Read for the provider's message, code and parameter.
        self.body = body
        self.kind = kind


def check_answer(answer: Mapping[str, Any]) -> None:
    """Raise `ReportedError` for a whole answer, or an event of a stream, that is an error instead."""
    error = answer.get("error")
    if error and isinstance(error, dict | str) and not any(answer.get(name) for name in _ANSWERS):
        raise ReportedError("the provider reported an error in its answer", answer, kind_of_report(error))
    for name, reason in (("choices", "finish_reason"), ("candidates", "finishReason")):
        choices = answer.get(name)
        for choice in choices if isinstance(choices, list) else ():
            word = choice.get(reason) if isinstance(choice, dict) else None
            if is_failure(word):
                report = error if isinstance(error, dict) else {"message": f"the answer ended with {word!r}"}
                raise ReportedError(f"the answer ended with {word!r}", {"error": report}, K.INTERNAL_SERVER)


def kind_of_report(error: Mapping[str, Any] | str) -> ErrorKind:
    """The kind of an error object; without a code it is the provider's own failure."""
    if isinstance(error, str):
        return K.INTERNAL_SERVER
    words = [str(value).lower() for name in _WORDS if isinstance(value := error.get(name), str)]
    named = [BY_WORD[word] for word in words if word in BY_WORD]
    statuses = [found for name in _STATUSES if (found := _status(error.get(name))) is not None]
    if statuses and not (named and named[0] in (K.CONTEXT_WINDOW, K.CONTENT_POLICY)):
        return kind_of_status(statuses[0])
    return named[0] if named else K.INTERNAL_SERVER


def _status(value: object) -> int | None:
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) == 3 else value
    return number if type(number) is int and 400 <= number < 600 else None
