"""The kind of every exception that a provider call can raise, by its class."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import aiohttp
import anyio
import httpx
import openai
from litellm import exceptions as litellm_exceptions
from pydantic import ValidationError

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from ..litellm_api import seam


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


class FirstTokenTimeout(ProviderFault):
    """The provider's stream was silent for longer than the call allows."""

    kind = ErrorKind.TIMEOUT


class StreamTooLarge(ProviderFault):
    """The provider's stream is longer than this worker takes."""

    kind = ErrorKind.STREAM_TOO_LARGE


class AnswerTooLarge(ProviderFault):
    """The provider's answer, or one line of its stream, is longer than this worker takes."""

    kind = ErrorKind.ANSWER_TOO_LARGE


class NoCredential(Exception):
    """This worker has no key for a provider; nothing has been sent."""

    kind = ErrorKind.AUTHENTICATION


class MissingExtra(Exception):
    """A package that a provider needs is not installed here; nothing has been sent."""

    kind = ErrorKind.AUTHENTICATION


K = ErrorKind
#: The kinds of others' exceptions; ours name theirs. A class that is not listed has that of its nearest
#: base that is.
KINDS: Mapping[type[BaseException], ErrorKind] = {
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
    litellm_exceptions.CallerCredentialAuthenticationError: K.AUTHENTICATION,
    litellm_exceptions.CallerCredentialRateLimitError: K.RATE_LIMIT,
    litellm_exceptions.MalformedRequestFieldError: K.BAD_REQUEST,
    litellm_exceptions.UnsupportedEndpointError: K.BAD_REQUEST,
    litellm_exceptions.EndpointNotSupportedByModelError: K.BAD_REQUEST,
    seam.RouterRateLimitError: K.RATE_LIMIT,
    seam.RouterRateLimitErrorBasic: K.RATE_LIMIT,
    seam.ToolLoopMaxRoundsExceeded: K.WORKER_FAULT,
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


def kind_of(cls: type[BaseException]) -> ErrorKind:
    """The kind of a class of exceptions: its own, or that of its nearest base in `KINDS`."""
    own = getattr(cls, "kind", None)
    if isinstance(own, ErrorKind):
        return own
    return next((KINDS[base] for base in cls.__mro__ if base in KINDS), ErrorKind.WORKER_FAULT)
