"""Any exception of a provider call, as the error envelope that crosses the queue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import aiohttp
import anyio
import httpx
import openai
from litellm import exceptions as litellm_exceptions
from pydantic import ValidationError

from rustic_ai.llm_queue.tasks.contract import MOST_SECONDS
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation as PolicyViolation
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber

from ..answers.json_value import clean_text
from ..litellm_api import seam
from ..wire.exchange import answer_has_begun, fault_of_the_exchange
from .kinds import KINDS as KINDS
from .kinds import AnswerTooLarge as AnswerTooLarge
from .kinds import MalformedAnswer as MalformedAnswer
from .kinds import NoCredential as NoCredential
from .kinds import ProviderFault as ProviderFault
from .kinds import StreamIdle as StreamIdle
from .kinds import StreamTooLarge as StreamTooLarge
from .kinds import StreamTruncated as StreamTruncated
from .kinds import kind_of as kind_of
from .origin import raised_by_a_reader
from .provider_message import ProviderWords
from .reported import BY_WORD
from .retry_after import retry_after_s
from .statuses import kind_of_status
from .unreachable import unreachable

K = ErrorKind
#: What a code says of a request that a message may say otherwise.
_CODES_THAT_DECIDE = frozenset({K.CONTEXT_WINDOW, K.CONTENT_POLICY})
#: Names that LiteLLM also gives to what it has no name for.
_VAGUE = frozenset({K.INTERNAL_SERVER, K.CONNECTION, K.BAD_REQUEST, K.UNPROCESSABLE, K.WORKER_FAULT})
_TIMEOUTS = (openai.APITimeoutError, httpx.TimeoutException, TimeoutError)
_NETWORK = (httpx.TransportError, httpx.StreamError, aiohttp.ClientError, OSError, anyio.EndOfStream)
#: What libraries raise about text that is not what it should be.
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError)


def classify(error: Exception, *, model: str, provider: str | None, scrubber: Scrubber) -> ErrorEnvelope:
    """What an exception of a provider call means. The message is free of keys, not of the prompt."""
    error = _decisive(_innermost(error))
    status, headers = _provider_answer(error)
    words = ProviderWords.of(error, _bodies(error))
    return ErrorEnvelope(
        kind=_kind(error, status, words.code),
        message=scrubber.scrub(clean_text(unreachable(_chain(error)) or words.message)),
        provider_status=status,
        provider=provider,
        model=model,
        code=scrubber.scrub(clean_text(words.code), 200) if words.code else None,
        param=scrubber.scrub(clean_text(words.param), 200) if words.param else None,
        retry_after_s=_retry_after_s(error, headers, words),
    )


def _kind(error: Exception, status: int | None, code: str | None) -> ErrorKind:
    if isinstance(error, PolicyViolation | ProviderFault):
        return error.kind
    by_code = BY_WORD.get(code) if code is not None else None
    if status is not None and status < 500 and by_code in _CODES_THAT_DECIDE:
        # A message may quote other words, the prompt's among them.
        return by_code
    kind = kind_of(type(error))
    named = kind not in _VAGUE and not isinstance(error, _UNREADABLE)
    if named or isinstance(error, _KNOWN_BAD_REQUESTS):
        return kind
    if status is not None:
        return kind_of_status(status)
    chain = [one for one in _chain(error) if not _is_litellms(one)]
    if by_code is not None:
        return by_code
    if any(isinstance(one, _TIMEOUTS) for one in chain):
        return K.TIMEOUT
    if any(isinstance(one, _NETWORK) for one in chain):
        return K.CONNECTION
    if any(type(one) is openai.APIError for one in chain):
        # An error event inside a stream.
        return K.INTERNAL_SERVER
    if not any(map(_is_unexplained, chain)):
        return kind
    unreadable = answer_has_begun() and raised_by_a_reader(first_cause(error))
    if kind is K.BAD_REQUEST:
        # Refused by LiteLLM itself; but it takes some answers that are not JSON for bad requests.
        garbled = unreadable and any(isinstance(one, _UNREADABLE) for one in chain)
        return K.RESPONSE_PROCESSING if garbled else kind
    return K.RESPONSE_PROCESSING if unreadable else K.WORKER_FAULT


def _is_unexplained(error: BaseException) -> bool:
    """Whether an exception shows neither a failure of the provider nor of the network."""
    if type(error).__module__.partition(".")[0] == litellm_exceptions.__name__.partition(".")[0]:
        return False
    return isinstance(error, _UNREADABLE) or kind_of(type(error)) is K.WORKER_FAULT


#: Found out before anything was sent, so no status stands behind them.
_KNOWN_BAD_REQUESTS = (
    litellm_exceptions.ImageFetchError,
    litellm_exceptions.LiteLLMUnknownProvider,
    litellm_exceptions.UnsupportedParamsError,
)


def _retry_after_s(error: Exception, headers: Mapping[str, str], words: ProviderWords) -> float | None:
    if isinstance(error, seam.RouterRateLimitError):
        # Every deployment of the operator's config rests.
        return min(float(error.cooldown_time), MOST_SECONDS)
    return retry_after_s(headers, words.raw)


def _innermost(error: Exception) -> Exception:
    """A failure in mid-stream comes wrapped for LiteLLM's router; what matters is inside."""
    while isinstance(error, litellm_exceptions.MidStreamFallbackError) and error.original_exception:
        error = error.original_exception
    return error


def first_cause(error: BaseException) -> BaseException:
    """The exception that all the others of its chain came of."""
    *_, cause = _chain(error)
    return cause


def _decisive(error: Exception) -> Exception:
    """What this worker itself raised below LiteLLM, which knows better than what LiteLLM made of it."""
    ours = (one for one in _chain(error) if isinstance(one, PolicyViolation | ProviderFault))
    return next(ours, None) or fault_of_the_exchange() or error


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
