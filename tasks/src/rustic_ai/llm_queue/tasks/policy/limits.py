"""What a call may ask for: checked by the client before it submits, and again by the worker."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..call import Call, CompletionCall, EmbeddingCall
from ..error_kind import ErrorKind
from ..reuse.options import CachePolicy, ReuseOptions
from ..settings import QueueSettings
from .private_hosts import AllowedHosts, is_private
from .schema_size import expanded_size

#: Texts of one embedding job: a result of so many vectors still goes through Redis in one piece.
MOST_TEXTS = 2_048
#: Most parts of the schemas of a request with their references written out; real ones stay below 10,000.
_MOST_SCHEMA_PARTS = 50_000
#: Parameters that bound the tokens of an answer.
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
_SCHEMES = frozenset({"http", "https"})
#: A provider reads them with the rights of whose key it is: the worker's.
_BUCKETS = frozenset({"gs", "s3"})
_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):(//|(?<=data:)|(?<=file:))", re.IGNORECASE)
#: Fields of a message's part in which a URL is only text.
_TEXT_FIELDS = frozenset({"text", "name", "filename", "title"})


class PolicyViolation(Exception):
    """A job that must not run as it is; no provider has been called."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check_limits(call: Call, settings: QueueSettings) -> None:
    """Raise `PolicyViolation`, naming the rule, unless the call keeps within the settings' limits."""
    _check_nesting(call.params, settings.max_nesting)
    if call.reuse is not None:
        _check_reuse(call.reuse, settings.cache)
    match call:
        case CompletionCall():
            _check_completion(call, settings)
        case EmbeddingCall():
            _check_embedding(call)


def _check_completion(call: CompletionCall, settings: QueueSettings) -> None:
    params = call.params
    _check_count(params.get("n"), "n", settings.max_n, "LLM_QUEUE_MAX_N")
    for name in _TOKEN_LIMITS:
        _check_tokens(params.get(name), name, settings)
    thinking = params.get("thinking")
    if isinstance(thinking, Mapping):
        _check_tokens(thinking.get("budget_tokens"), "thinking.budget_tokens", settings)
    check_message_urls(params.get("messages"), settings)
    _check_schemas(params)


def _check_embedding(call: EmbeddingCall) -> None:
    if len(call.texts) > MOST_TEXTS:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED,
            f"input: {len(call.texts)} texts in one job, and the most is {MOST_TEXTS}; split them",
        )
    for index, text in enumerate(call.texts):
        if not text:
            raise PolicyViolation(
                ErrorKind.BAD_REQUEST, f"input[{index}]: an empty text has no embedding; leave it out"
            )
    _check_count(call.params.get("dimensions"), "dimensions", None, "")


def check_body_size(size: int, settings: QueueSettings) -> None:
    """Raise `PolicyViolation` for a request of more bytes than the settings allow."""
    if size > settings.max_body_bytes:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED,
            f"the request is {size:,} bytes of JSON and the limit is {settings.max_body_bytes:,}; "
            "shorten it, pass pictures and files by URL, or raise LLM_QUEUE_MAX_BODY_BYTES",
        )


def check_timeout(timeout_s: float, settings: QueueSettings) -> None:
    """Raise `PolicyViolation` for a call that may take longer than the settings allow."""
    longest_s = settings.max_timeout.total_seconds()
    if timeout_s > longest_s:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED,
            f"timeout: {timeout_s:g} s is above the longest allowed, {longest_s:g} s; "
            "lower it, or raise LLM_QUEUE_MAX_TIMEOUT",
        )


def bounded(params: Mapping[str, Any], settings: QueueSettings) -> dict[str, Any]:
    """`params` with the settings' limit of tokens where they name none: left out, it would not hold."""
    limit = settings.max_output_tokens
    if limit is None or any(params.get(name) is not None for name in _TOKEN_LIMITS):
        return dict(params)
    return {**params, "max_tokens": limit}


def check_message_urls(messages: object, settings: QueueSettings) -> None:
    """Raise `PolicyViolation` for a URL in a message's parts that a worker must not fetch.

    Text is not looked at. Names are not looked up either: who fetches checks the addresses again.
    """
    urls = [
        url
        for message in _items(messages)
        if isinstance(message, Mapping)
        for part in _items(message.get("content"))
        for url in _urls(part)
    ]
    if urls:
        allowed = settings.private_hosts()
        for url in urls:
            _check_url(url, allowed)


def _check_url(url: str, allowed: AllowedHosts) -> None:
    scheme = url.partition(":")[0].strip().lower()
    if scheme == "data":
        _check_data_url(url)
        return
    if scheme not in _SCHEMES | _BUCKETS:
        raise _forbidden(f"a message holds a URL with the scheme {scheme[:32]!r}; give http, https or data")
    try:
        host = urlsplit(url.strip()).hostname
    except ValueError:
        host = None
    if not host:
        raise PolicyViolation(ErrorKind.BAD_REQUEST, "a message holds a URL that names no host")
    if (scheme in _BUCKETS or is_private(host)) and not allowed.admits(host):
        kind = "bucket" if scheme in _BUCKETS else "private host"
        raise _forbidden(
            f"a message holds a URL of the {kind} {host[:100]!r}; "
            "put the data into the request, or allow the host in LLM_QUEUE_ALLOWED_HOSTS"
        )


def _check_data_url(url: str) -> None:
    head, comma, data = url.strip().partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise PolicyViolation(
            ErrorKind.BAD_REQUEST, "a data URL in a message is not of the form data:…;base64,…"
        )
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise PolicyViolation(ErrorKind.BAD_REQUEST, "a data URL in a message is not base64") from None


def _urls(value: object) -> Iterator[str]:
    match value:
        case str():
            if _URL.match(value):
                yield value
        case Mapping():
            for name, item in value.items():
                if name not in _TEXT_FIELDS or not isinstance(item, str):
                    yield from _urls(item)
        case list() | tuple():
            for item in value:
                yield from _urls(item)


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _check_nesting(params: Mapping[str, Any], most: int) -> None:
    level: list[Any] = [params]
    for _ in range(most + 1):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(inner, Mapping | list | tuple)
        ]
        if not level:
            return
    raise PolicyViolation(
        ErrorKind.LIMIT_EXCEEDED,
        f"the request is nested deeper than {most} levels; flatten it, or raise LLM_QUEUE_MAX_NESTING",
    )


def _check_schemas(params: Mapping[str, Any]) -> None:
    """A few lines of `$ref`s may stand for a gigabyte, which LiteLLM writes out for some providers."""
    for name in ("tools", "functions", "response_format"):
        if expanded_size(params.get(name), most=_MOST_SCHEMA_PARTS) > _MOST_SCHEMA_PARTS:
            raise PolicyViolation(
                ErrorKind.LIMIT_EXCEEDED,
                f"{name}: with its $refs written out, the schema has more than {_MOST_SCHEMA_PARTS:,} parts; "
                "refer to each definition fewer times",
            )


def _check_tokens(asked: object, name: str, settings: QueueSettings) -> None:
    _check_count(asked, name, settings.max_output_tokens, "LLM_QUEUE_MAX_OUTPUT_TOKENS")


def _check_count(asked: object, name: str, most: int | None, variable: str) -> None:
    if asked is None:
        return
    if type(asked) is not int or asked < 1:
        raise PolicyViolation(
            ErrorKind.BAD_REQUEST, f"{name}: {str(asked)[:64]} is not a whole number above 0"
        )
    if most is not None and asked > most:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED, f"{name}: {asked} is above the limit of {most} ({variable})"
        )


def _forbidden(message: str) -> PolicyViolation:
    return PolicyViolation(ErrorKind.ENDPOINT_NOT_ALLOWED, message)


def _check_reuse(reuse: ReuseOptions, policy: CachePolicy) -> None:
    longest_s = policy.max_ttl.total_seconds()
    if reuse.cache_ttl_s > longest_s:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED,
            f"cache_ttl_s: {reuse.cache_ttl_s:g} s is above the longest allowed, {longest_s:g} s; "
            "lower it, or raise max_ttl in [cache] of the policy file",
        )
    if reuse.asked and reuse.cache_scope not in policy.scopes:
        raise PolicyViolation(
            ErrorKind.LIMIT_EXCEEDED,
            f"cache_scope: {reuse.cache_scope!r} is not one of {', '.join(policy.scopes) or 'none'}, which "
            "[cache] of the policy file allows",
        )
