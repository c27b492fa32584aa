"""The exceptions: openai's and core's at once, and nothing in them that must not be seen."""

import copy
import inspect
import pickle
from typing import Any

import openai
import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import APIError as CoreAPIError
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionError, ResponseCodes, UserMessage

from rustic_ai.llm_queue.resolver import exceptions
from rustic_ai.llm_queue.resolver.call.failure import to_exception
from rustic_ai.llm_queue.resolver.exceptions import (
    BY_KIND,
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ContextWindowExceededError,
    CredentialRequired,
    InternalServerError,
    InvalidRequest,
    JobCancelled,
    JobTimeout,
    ModelNotAllowed,
    QueueError,
    QueueUnavailable,
    RateLimitError,
    WorkerLost,
)
from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.outcome import Account, Cancelled, Expired, Failed

CODES = {int(code) for code in ResponseCodes}
ALL = [
    each
    for _, each in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(each, QueueError) and each is not QueueError
]
ATTEMPTS = tuple(
    AttemptRecord(number=n, epoch=1, model=model, status="failed", error=ErrorKind.RATE_LIMIT)
    for n, model in enumerate(["gpt-4", "gpt-4o"], start=1)
)


def failure(kind: ErrorKind, message: str = "no", **facts: Any) -> QueueError:
    outcome = Failed(
        account=Account(attempts=ATTEMPTS), error=ErrorEnvelope(kind=kind, message=message, **facts)
    )
    return to_exception(outcome, job_id="job", model="gpt-4")


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_has_a_class(kind: ErrorKind) -> None:
    error = failure(kind, "it broke", provider_status=503, retry_after_s=2.0, provider="openai", code="c")
    assert type(error) is BY_KIND[kind]
    assert (error.kind, error.provider_status, error.retry_after_s) == (kind, 503, 2.0)
    assert (error.job_id, error.model, error.attempts) == ("job", "gpt-4o", ATTEMPTS)
    assert (error.provider, error.code) == ("openai", "c")
    assert "it broke" in error.message


@pytest.mark.parametrize("kind", ALL, ids=lambda each: each.__name__)
def test_every_class_is_openais_and_cores(kind: type[QueueError]) -> None:
    error = kind()
    assert isinstance(error, CoreAPIError)
    assert isinstance(error, openai.APIError)
    assert error.status_code in CODES
    assert ResponseCodes(error.status_code)
    assert error.message
    assert error.job_id is None
    assert error.attempts == ()


@pytest.mark.parametrize("kind", ALL, ids=lambda each: each.__name__)
def test_an_agents_handler_can_make_a_message_of_it(kind: type[QueueError]) -> None:
    error = kind("it broke", provider_status=529)
    if isinstance(error, openai.APIStatusError):
        assert error.response.status_code == 529
        assert "it broke" in error.response.text
    made = ChatCompletionError(
        status_code=ResponseCodes(error.status_code),
        message=error.message,
        response=error.response.text if error.response else None,
        request_messages=[UserMessage(content="Hi")],
        body=error.body,
    )
    assert "it broke" in made.message


@pytest.mark.parametrize("kind", ALL, ids=lambda each: each.__name__)
def test_it_can_be_pickled_and_copied(kind: type[QueueError]) -> None:
    error = kind(
        "it broke",
        kind=ErrorKind.BAD_REQUEST,
        job_id="job",
        model="gpt-4",
        attempts=ATTEMPTS,
        provider_status=400,
    )
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), repr(again)) == (str(error), repr(error))
        assert (again.attempts, again.body, again.job_id) == (error.attempts, error.body, "job")
        assert (again.response is None) == (error.response is None)


def test_the_documented_examples_phrases_are_found() -> None:
    assert "rate limit" in str(failure(ErrorKind.RATE_LIMIT, "Slow down")).lower()
    assert "context length" in str(failure(ErrorKind.CONTEXT_WINDOW, "Too long")).lower()
    said = "This model's maximum context length is 8192 tokens"
    assert failure(ErrorKind.CONTEXT_WINDOW, said).message == said


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (ErrorKind.INTERNAL_SERVER, 503, 500),
        (ErrorKind.INTERNAL_SERVER, 529, 500),
        (ErrorKind.BAD_REQUEST, 413, 400),
        (ErrorKind.CONTEXT_WINDOW, 400, 1001),
        (ErrorKind.CONTENT_POLICY, 400, 1002),
        (ErrorKind.RATE_LIMIT, 429, 429),
    ],
)
def test_the_providers_status_stands_beside_the_code(kind: ErrorKind, status: int, code: int) -> None:
    error = failure(kind, provider_status=status)
    assert (error.status_code, error.provider_status) == (code, status)
    assert error.response.status_code == status


def test_retry_after_is_in_the_response_too() -> None:
    assert failure(ErrorKind.RATE_LIMIT, retry_after_s=1.5).response.headers["retry-after"] == "1.5"


def test_the_text_names_job_model_and_attempts() -> None:
    assert str(failure(ErrorKind.INTERNAL_SERVER)) == "no [job job, model gpt-4o, 2 attempts]"
    assert str(InvalidRequest("messages: empty")) == "messages: empty"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BadRequestError, openai.BadRequestError),
        (ContextWindowExceededError, openai.BadRequestError),
        (InvalidRequest, ValueError),
        (CredentialRequired, openai.AuthenticationError),
        (ModelNotAllowed, openai.PermissionDeniedError),
        (RateLimitError, openai.RateLimitError),
        (InternalServerError, openai.InternalServerError),
        (WorkerLost, openai.InternalServerError),
        (JobCancelled, openai.APIStatusError),
        (APIConnectionError, openai.APIConnectionError),
        (QueueUnavailable, openai.APIConnectionError),
        (APITimeoutError, openai.APITimeoutError),
        (JobTimeout, openai.APITimeoutError),
    ],
)
def test_handlers_for_openais_classes_catch_ours(ours: type[QueueError], theirs: type[Exception]) -> None:
    with pytest.raises(theirs):
        raise ours("no")


def test_endings_that_are_no_failure() -> None:
    cancelled = to_exception(Cancelled(account=Account(), by="operator"), job_id="job", model="m")
    assert isinstance(cancelled, JobCancelled)
    assert "operator" in cancelled.message
    expired = to_exception(Expired(account=Account(attempts=ATTEMPTS)), job_id="job", model="m")
    assert isinstance(expired, JobTimeout)
    assert (expired.attempts, expired.model) == (ATTEMPTS, "gpt-4o")


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    for each in ALL:
        assert each.__name__ in (exceptions.__doc__ or ""), each
