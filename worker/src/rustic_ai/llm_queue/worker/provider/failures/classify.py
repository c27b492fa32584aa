"""Any exception of a provider call, as the error envelope that crosses the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

import aiohttp
import anyio
import httpx
import openai
from litellm import exceptions as litellm_exceptions
from litellm.tool_loop import ToolLoopMaxRoundsExceeded
from litellm.types.router import RouterRateLimitError, RouterRateLimitErrorBasic
from pydantic import ValidationError

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.limits import PolicyViolation as PolicyViolation
from rustic_ai.llm_queue.tasks.scrub import Scrubber

from .provider_message import ProviderWords
from .retry_after import retry_after_s


class ProviderFault(Exception):
    """A provider's answer that is no answer."""

    kind = ErrorKind.RESPONSE_PROCESSING


class MalformedAnswer(ProviderFault):
    """The provider's answer has no choices, or is not what it should be."""


class StreamTruncated(ProviderFault):
    """The provider's stream ended without a finish reason."""


class StreamIdle(ProviderFault):
    """The provider stopped sending in the middle of a stream."""

    kind = ErrorKind.STREAM_IDLE


class StreamTooLarge(ProviderFault):
    """The provider's stream is longer than this worker takes."""

    kind = ErrorKind.STREAM_TOO_LARGE


class NoCredential(Exception):
    """This worker has no key for a provider; nothing has been sent."""

    kind = ErrorKind.AUTHENTICATION


K = ErrorKind
#: An exception's kind is that of its class, or else of the nearest of its bases that stands here.
KINDS: Mapping[type[BaseException], ErrorKind] = {
    ProviderFault: K.RESPONSE_PROCESSING,
    MalformedAnswer: K.RESPONSE_PROCESSING,
    StreamTruncated: K.RESPONSE_PROCESSING,
    StreamIdle: K.STREAM_IDLE,
    StreamTooLarge: K.STREAM_TOO_LARGE,
    NoCredential: K.AUTHENTICATION,
    # LiteLLM
    litellm_exceptions.AuthenticationError: K.AUTHENTICATION,
    litellm_exceptions.NotFoundError: K.NOT_FOUND,
    litellm_exceptions.BadRequestError: K.BAD_REQUEST,
    litellm_exceptions.ImageFetchError: K.BAD_REQUEST,
    litellm_exceptions.VectorStoreSearchError: K.BAD_REQUEST,
    litellm_exceptions.UnprocessableEntityError: K.UNPROCESSABLE,
    litellm_exceptions.Timeout: K.TIMEOUT,
    litellm_exceptions.PermissionDeniedError: K.PERMISSION_DENIED,
    litellm_exceptions.RateLimitError: K.RATE_LIMIT,
    litellm_exceptions.ContextWindowExceededError: K.CONTEXT_WINDOW,
    # 402: the account lacks credit, the request is fine.
    litellm_exceptions.PaymentRequiredError: K.PERMISSION_DENIED,
    litellm_exceptions.RejectedRequestError: K.CONTENT_POLICY,
    litellm_exceptions.ContentPolicyViolationError: K.CONTENT_POLICY,
    litellm_exceptions.ServiceUnavailableError: K.INTERNAL_SERVER,
    litellm_exceptions.BadGatewayError: K.INTERNAL_SERVER,
    litellm_exceptions.InternalServerError: K.INTERNAL_SERVER,
    litellm_exceptions.APIError: K.INTERNAL_SERVER,
    litellm_exceptions.APIConnectionError: K.CONNECTION,
    litellm_exceptions.APIResponseValidationError: K.RESPONSE_PROCESSING,
    litellm_exceptions.JSONSchemaValidationError: K.RESPONSE_PROCESSING,
    litellm_exceptions.OpenAIError: K.INTERNAL_SERVER,
    litellm_exceptions.UnsupportedParamsError: K.BAD_REQUEST,
    litellm_exceptions.ModelNotMappedError: K.BAD_REQUEST,
    litellm_exceptions.BudgetExceededError: K.RATE_LIMIT,
    litellm_exceptions.InvalidRequestError: K.BAD_REQUEST,
    litellm_exceptions.MockException: K.INTERNAL_SERVER,
    litellm_exceptions.LiteLLMUnknownProvider: K.BAD_REQUEST,
    litellm_exceptions.GuardrailRaisedException: K.CONTENT_POLICY,
    litellm_exceptions.BlockedPiiEntityError: K.CONTENT_POLICY,
    litellm_exceptions.MidStreamFallbackError: K.CONNECTION,
    litellm_exceptions.ModifyResponseException: K.CONTENT_POLICY,
    litellm_exceptions.SensitiveDataRouteException: K.CONTENT_POLICY,
    RouterRateLimitError: K.RATE_LIMIT,
    RouterRateLimitErrorBasic: K.RATE_LIMIT,
    ToolLoopMaxRoundsExceeded: K.WORKER_FAULT,
    # openai
    openai.BadRequestError: K.BAD_REQUEST,
    openai.AuthenticationError: K.AUTHENTICATION,
    openai.PermissionDeniedError: K.PERMISSION_DENIED,
    openai.NotFoundError: K.NOT_FOUND,
    openai.ConflictError: K.CONFLICT,
    openai.UnprocessableEntityError: K.UNPROCESSABLE,
    openai.RateLimitError: K.RATE_LIMIT,
    openai.InternalServerError: K.INTERNAL_SERVER,
    openai.APIStatusError: K.INTERNAL_SERVER,
    openai.APITimeoutError: K.TIMEOUT,
    openai.APIConnectionError: K.CONNECTION,
    openai.APIResponseValidationError: K.RESPONSE_PROCESSING,
    openai.LengthFinishReasonError: K.RESPONSE_PROCESSING,
    openai.ContentFilterFinishReasonError: K.CONTENT_POLICY,
    openai.OAuthError: K.AUTHENTICATION,
    openai.InvalidWebhookSignatureError: K.WORKER_FAULT,
    openai.WebSocketConnectionClosedError: K.CONNECTION,
    openai.WebSocketQueueFullError: K.CONNECTION,
    openai.APIError: K.INTERNAL_SERVER,
    openai.OpenAIError: K.INTERNAL_SERVER,
    # The network, below both
    httpx.TimeoutException: K.TIMEOUT,
    httpx.TransportError: K.CONNECTION,
    httpx.RemoteProtocolError: K.CONNECTION,
    httpx.StreamError: K.CONNECTION,
    httpx.HTTPStatusError: K.INTERNAL_SERVER,
    httpx.DecodingError: K.RESPONSE_PROCESSING,
    httpx.HTTPError: K.CONNECTION,
    httpx.InvalidURL: K.BAD_REQUEST,
    aiohttp.ServerTimeoutError: K.TIMEOUT,
    aiohttp.ClientPayloadError: K.CONNECTION,
    aiohttp.ClientConnectionError: K.CONNECTION,
    aiohttp.ClientError: K.CONNECTION,
    aiohttp.InvalidURL: K.BAD_REQUEST,
    aiohttp.EofStream: K.CONNECTION,
    anyio.EndOfStream: K.CONNECTION,
    anyio.BrokenResourceError: K.CONNECTION,
    anyio.ClosedResourceError: K.CONNECTION,
    asyncio.IncompleteReadError: K.CONNECTION,
    TimeoutError: K.TIMEOUT,
    OSError: K.CONNECTION,
    json.JSONDecodeError: K.RESPONSE_PROCESSING,
    UnicodeDecodeError: K.RESPONSE_PROCESSING,
    ValidationError: K.RESPONSE_PROCESSING,
    Exception: K.WORKER_FAULT,
}

#: A status that really came back says more than the class LiteLLM found for it.
_BY_STATUS: Mapping[int, ErrorKind] = {
    400: K.BAD_REQUEST,
    401: K.AUTHENTICATION,
    402: K.PERMISSION_DENIED,
    403: K.PERMISSION_DENIED,
    404: K.NOT_FOUND,
    408: K.TIMEOUT,
    409: K.CONFLICT,
    422: K.UNPROCESSABLE,
    429: K.RATE_LIMIT,
    504: K.TIMEOUT,
}
_BY_CODE: Mapping[str, ErrorKind] = {
    "content_filter": K.CONTENT_POLICY,
    "context_length_exceeded": K.CONTEXT_WINDOW,
    "insufficient_quota": K.RATE_LIMIT,
    "invalid_request_error": K.BAD_REQUEST,
    "rate_limit_error": K.RATE_LIMIT,
    "rate_limit_exceeded": K.RATE_LIMIT,
}
#: Names that LiteLLM also gives to what it has no name for.
_VAGUE = frozenset({K.INTERNAL_SERVER, K.CONNECTION, K.BAD_REQUEST, K.UNPROCESSABLE, K.WORKER_FAULT})
_TIMEOUTS = (openai.APITimeoutError, httpx.TimeoutException, TimeoutError)
_NETWORK = (httpx.TransportError, httpx.StreamError, aiohttp.ClientError, OSError, anyio.EndOfStream)
#: What reading an answer raises that is not what it should be.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ProviderFault)


def classify(error: Exception, *, model: str, provider: str | None, scrubber: Scrubber) -> ErrorEnvelope:
    """What an exception of a provider call means. The message is free of keys, not of the prompt."""
    error = _innermost(error)
    status, headers = _provider_answer(error)
    words = ProviderWords.of(error, _bodies(error))
    return ErrorEnvelope(
        kind=_kind(error, status, words.code),
        message=scrubber.scrub(words.message),
        provider_status=status,
        provider=provider,
        model=model,
        code=scrubber.scrub(words.code, 200) if words.code else None,
        param=scrubber.scrub(words.param, 200) if words.param else None,
        retry_after_s=_retry_after_s(error, headers, words),
    )


def kind_of(cls: type[BaseException]) -> ErrorKind:
    """The kind of a class of exceptions, by its nearest base in `KINDS`."""
    return next((KINDS[base] for base in cls.__mro__ if base in KINDS), ErrorKind.WORKER_FAULT)


def _kind(error: Exception, status: int | None, code: str | None) -> ErrorKind:
    if isinstance(error, PolicyViolation):
        return error.kind
    kind = kind_of(type(error))
    if kind not in _VAGUE or isinstance(error, _KNOWN_BAD_REQUESTS):
        return kind
    if status is not None:
        return _BY_STATUS.get(status, K.INTERNAL_SERVER if status >= 500 else K.BAD_REQUEST)
    chain = [one for one in _chain(error) if not _is_litellms(one)]
    if code is not None and code in _BY_CODE:
        return _BY_CODE[code]
    if any(isinstance(one, _TIMEOUTS) for one in chain):
        return K.TIMEOUT
    if any(isinstance(one, _NETWORK) for one in chain):
        return K.CONNECTION
    if any(type(one) is openai.APIError for one in chain):
        # An error event inside a stream.
        return K.INTERNAL_SERVER
    if kind is not K.BAD_REQUEST and any(isinstance(one, _UNREADABLE) for one in chain):
        return K.RESPONSE_PROCESSING
    if kind is K.BAD_REQUEST and any(isinstance(one, json.JSONDecodeError) for one in chain):
        return K.RESPONSE_PROCESSING
    return kind


#: Found out before anything was sent, so no status stands behind them.
_KNOWN_BAD_REQUESTS = (
    litellm_exceptions.ImageFetchError,
    litellm_exceptions.LiteLLMUnknownProvider,
    litellm_exceptions.UnsupportedParamsError,
)


def _retry_after_s(error: Exception, headers: Mapping[str, str], words: ProviderWords) -> float | None:
    if isinstance(error, RouterRateLimitError):
        # Every deployment of the operator's config rests.
        return float(error.cooldown_time)
    return retry_after_s(headers, words.raw)


def _innermost(error: Exception) -> Exception:
    """A failure in mid-stream comes wrapped for LiteLLM's router; what matters is inside."""
    while isinstance(error, litellm_exceptions.MidStreamFallbackError) and error.original_exception:
        error = error.original_exception
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_litellms(error: BaseException) -> bool:
    return type(error).__module__ == litellm_exceptions.__name__


def _provider_answer(error: Exception) -> tuple[int | None, Mapping[str, str]]:
    """Status and headers a provider really sent. LiteLLM makes up responses where none came."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, httpx.HTTPStatusError | openai.APIStatusError) and not _is_litellms(one):
            return one.response.status_code, one.response.headers
    if any(
        isinstance(one, (*_TIMEOUTS, *_NETWORK, json.JSONDecodeError))
        for one in chain
        if not _is_litellms(one)
    ):
        return None, {}
    for one in chain:
        response = getattr(one, "response", None)
        headers = getattr(response, "headers", None) or getattr(one, "headers", None)
        status = getattr(response, "status_code", None) or getattr(one, "status_code", None)
        if headers and isinstance(status, int) and status >= 400:
            return status, httpx.Headers(headers)
    return None, {}


def _bodies(error: Exception) -> Iterator[object]:
    return (getattr(one, "body", None) for one in _chain(error))
