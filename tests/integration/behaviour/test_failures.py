"""Each class of errors, in memory as on real parts."""

from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    APIError,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ResponseCodes,
)

from rustic_ai.llm_queue import resolver
from rustic_ai.llm_queue.resolver import (
    ErrorKind,
    InvalidRequest,
    JobNotFound,
    JobState,
    JobTimeout,
    LimitExceeded,
    QueueError,
    QueueLLM,
)
from support.callers.behaviour import MODEL, Backend
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import Step

pytestmark = pytest.mark.leaves_keys(
    "nobody*", "llmq:queued:nobody:*", "llmq:deadlines", reason="jobs of a queue that no worker serves"
)
K = ErrorKind


@dataclass(frozen=True)
class Trouble:
    error: str
    kind: ErrorKind
    step: Step = field(default_factory=Step)
    status: int | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1
    stream: bool = False


TROUBLES = [
    Trouble("BadRequestError", K.BAD_REQUEST, Step(status=400), 400),
    Trouble("AuthenticationError", K.AUTHENTICATION, Step(status=401), 401),
    Trouble("PermissionDeniedError", K.PERMISSION_DENIED, Step(status=403), 403),
    Trouble("NotFoundError", K.NOT_FOUND, Step(status=404), 404),
    Trouble("ConflictError", K.CONFLICT, Step(status=409), 409),
    Trouble("UnprocessableEntityError", K.UNPROCESSABLE, Step(status=422), 422),
    Trouble("RateLimitError", K.RATE_LIMIT, Step(status=429, retry_after_s=7), 429),
    Trouble("InternalServerError", K.INTERNAL_SERVER, Step(status=503), 503),
    Trouble(
        "ContextWindowExceededError",
        K.CONTEXT_WINDOW,
        Step(status=400, code="context_length_exceeded"),
        400,
    ),
    Trouble("ContentPolicyViolationError", K.CONTENT_POLICY, Step(status=400, code="content_filter"), 400),
    Trouble("APITimeoutError", K.TIMEOUT, Step(status=408), 408),
    Trouble("APIConnectionError", K.CONNECTION, Step(fault="refuse")),
    Trouble("ResponseProcessingError", K.RESPONSE_PROCESSING, Step(fault="bad_json")),
    Trouble("StreamIdle", K.STREAM_IDLE, Step(text="so far so good", fault="stall"), stream=True),
    Trouble("StreamTooLarge", K.STREAM_TOO_LARGE, Step(text="word " * 12_000), stream=True),
    Trouble(
        "EndpointNotAllowed",
        K.ENDPOINT_NOT_ALLOWED,
        properties={"base_url": "http://169.254.169.254/v1"},
        attempts=0,
    ),
    Trouble(
        "CredentialRequired",
        K.CREDENTIAL_REQUIRED,
        properties={"base_url": "https://elsewhere.example/v1"},
        attempts=0,
    ),
    Trouble(
        "ModelNotAllowed", K.MODEL_NOT_ALLOWED, properties={"model": "anthropic/claude-opus-4"}, attempts=0
    ),
    Trouble("BudgetExceeded", K.BUDGET_EXCEEDED, properties={"max_cost_usd": 1e-9}, attempts=0),
]
#: Refused before anything is queued.
AT_ONCE = {K.LIMIT_EXCEEDED}
#: What real parts do not report at will: a dead worker, a worker's bug, an altered record.
BY_SCRIPT_ALONE = {K.WORKER_LOST, K.WORKER_FAULT, K.INVALID_RECORD, K.ANSWER_TOO_LARGE}


def test_every_kind_is_there() -> None:
    assert {trouble.kind for trouble in TROUBLES} | AT_ONCE | BY_SCRIPT_ALONE == set(ErrorKind)


def read_stream(llm: QueueLLM, prompt: ChatCompletionRequest) -> ChatCompletionResponse:
    with llm.stream(prompt) as stream:
        return stream.result()


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.error)
def test_a_failed_call_raises_its_error(backend: Backend, trouble: Trouble) -> None:
    backend.fail(trouble.kind, trouble.step)
    llm = backend.llm(**trouble.properties)
    with pytest.raises(QueueError) as caught:
        (read_stream if trouble.stream else QueueLLM.completion)(llm, ask("Well?"))
    error = caught.value
    assert type(error) is getattr(resolver, trouble.error)
    assert isinstance(error, openai.APIError)
    assert isinstance(error, APIError)
    assert error.kind is trouble.kind
    assert error.status_code in list(ResponseCodes)
    assert error.provider_status == trouble.status
    assert error.retry_after_s == trouble.step.retry_after_s
    assert error.model == trouble.properties.get("model", MODEL)
    assert error.message
    assert [(one.status, one.error, one.provider_status) for one in error.attempts] == [
        ("failed", trouble.kind, trouble.status)
    ] * trouble.attempts
    assert error.account is not None
    assert_told_again(backend, error)


def assert_told_again(backend: Backend, error: QueueError) -> None:
    """Whoever asks for the job later is told the same."""
    assert error.job_id
    job = backend.llm().job(error.job_id)
    assert job.status() is JobState.FAILED
    with pytest.raises(type(error)) as caught:
        job.result()
    assert (caught.value.message, caught.value.job_id) == (error.message, error.job_id)


async def test_a_failed_async_call_raises_its_error(backend: Backend) -> None:
    backend.script(Step(status=429, message="slow down"))
    with pytest.raises(resolver.RateLimitError, match="slow down"):
        await backend.llm().async_completion(ask("Well?"))


def test_a_request_that_cannot_be_sent_is_refused_at_once(backend: Backend) -> None:
    llm = backend.llm()
    with pytest.raises(InvalidRequest, match="messages"):
        llm.completion(ask("").model_copy(update={"messages": []}))
    with pytest.raises(LimitExceeded, match="timeout"):
        llm.completion(ask("Well?", timeout=1_000_000))
    assert backend.asked() == []


def test_a_call_that_nobody_takes_ends_with_its_timeout(backend: Backend) -> None:
    llm = backend.unattended(timeout=0.3)
    with pytest.raises(JobTimeout, match=r"0\.3 s: no worker took it") as caught:
        llm.completion(ask("Well?"))
    assert caught.value.attempts == ()
    assert_cancelled(backend, caught.value)


async def test_a_call_that_takes_too_long_ends_with_its_timeout(backend: Backend) -> None:
    backend.script(Step(hold=True))
    with pytest.raises(JobTimeout, match=r"1\.5 s") as caught:
        await backend.llm(timeout=1.5).async_completion(ask("Well?"))
    assert caught.value.status_code == 1004
    assert_cancelled(backend, caught.value)


def assert_cancelled(backend: Backend, error: QueueError) -> None:
    assert error.job_id
    job = backend.llm().job(error.job_id)
    # The worker may have found it past its deadline before it was cancelled.
    ends = {JobState.CANCELLED, JobState.EXPIRED}
    wait_until(lambda: job.status() in ends, 10, "the job to end")


def test_a_job_that_is_none_is_not_found(backend: Backend) -> None:
    unknown = backend.llm().job("00000000-0000-4000-8000-000000000000")
    for ask_for in (unknown.status, unknown.result, unknown.cancel):
        with pytest.raises(JobNotFound):
            ask_for()
