"""Any exception of a provider call, as the error envelope that crosses the queue."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import anyio
import httpx
import openai
from litellm import exceptions as litellm_exceptions
from litellm.tool_loop import ToolLoopMaxRoundsExceeded
from litellm.types.router import RouterRateLimitError, RouterRateLimitErrorBasic
from pydantic import ValidationError

from ..tasks.error_kind import ErrorKind
from ..tasks.errors import ErrorEnvelope
from .retry_after import retry_after_s
from .scrub import Scrubber


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


class PolicyViolation(Exception):
    """A job that this worker must not run as it is; no provider has been called."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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

#: Where a class says only that a status came back, the status says more.
_BY_STATUS: Mapping[int, ErrorKind] = {
    400: K.BAD_REQUEST,
    401: K.AUTHENTICATION,
    402: K.PERMISSION_DENIED,
    403: K.PERMISSION_DENIED,
    404: K.NOT_FOUND,
    408: K.TIMEOUT,
    409: K.CONFLICT,
    413: K.BAD_REQUEST,
    422: K.UNPROCESSABLE,
    429: K.RATE_LIMIT,
    504: K.TIMEOUT,
}
_VAGUE = frozenset({K.INTERNAL_SERVER, K.CONNECTION, K.WORKER_FAULT})

_TRACEBACK = re.compile(r"\n?Traceback \(most recent call last\).*", re.DOTALL)
_CLASS_PREFIX = re.compile(r"^(?:litellm\.)?\w+(?:Error|Exception|Timeout):\s*")


def classify(error: Exception, *, model: str, provider: str | None, scrubber: Scrubber) -> ErrorEnvelope:
    """What an exception of a provider call means. The message is free of keys, not of the prompt."""
    error = _innermost(error)
    status, headers = _provider_answer(error)
    body = _body(error)
    text = _message(error)
    return ErrorEnvelope(
        kind=_kind(error, status),
        message=scrubber.scrub(text),
        provider_status=status,
        provider=provider,
        model=model,
        code=_short(body.get("code") or getattr(error, "code", None)),
        param=_short(body.get("param") or getattr(error, "param", None)),
        retry_after_s=retry_after_s(headers, text),
    )


def kind_of(cls: type[BaseException]) -> ErrorKind:
    """The kind of a class of exceptions, by its nearest base in `KINDS`."""
    return next((KINDS[base] for base in cls.__mro__ if base in KINDS), ErrorKind.WORKER_FAULT)


def _kind(error: Exception, status: int | None) -> ErrorKind:
    if isinstance(error, PolicyViolation):
        return error.kind
    kind = kind_of(type(error))
    if kind in _VAGUE and status is not None and status >= 400:
        return _BY_STATUS.get(status, K.INTERNAL_SERVER if status >= 500 else K.BAD_REQUEST)
    if kind is K.CONNECTION and any(isinstance(one, _UNREADABLE) for one in _chain(error)):
        # LiteLLM calls everything it has no name for a connection error.
        return K.RESPONSE_PROCESSING
    return kind


_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError, ProviderFault)


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


def _provider_answer(error: Exception) -> tuple[int | None, Mapping[str, str]]:
    """Status and headers a provider really sent. LiteLLM makes up responses where none came."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        headers = getattr(response, "headers", None) or getattr(one, "headers", None)
        status = getattr(response, "status_code", None) or getattr(one, "status_code", None)
        if headers and isinstance(status, int) and status >= 400:
            return status, httpx.Headers(headers)
    return None, {}


def _body(error: Exception) -> Mapping[str, Any]:
    for one in _chain(error):
        body = getattr(one, "body", None)
        if isinstance(body, dict):
            inner = body.get("error", body)
            if isinstance(inner, dict):
                return inner
    return {}


def _message(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error) or type(error).__name__
    text = _TRACEBACK.sub("", text).strip()
    while (shorter := _CLASS_PREFIX.sub("", text, count=1)) != text and shorter:
        text = shorter
    return text or type(error).__name__


def _short(value: object) -> str | None:
    return str(value)[:200] if isinstance(value, str | int) and not isinstance(value, bool) else None
