from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.policy.private_hosts import AllowedHosts, is_private, plain_host

if TYPE_CHECKING:
    import httpx

_MOST_HEADERS = 50
_MOST_ORIGINS = 1024


class Addresses:
    """The private addresses that this worker's own operator named; every other one is refused."""

    def __init__(self, urls: Iterable[str] = (), hosts: AllowedHosts | None = None) -> None:
        """`urls` are the operator's settings, whatever they are; those that are URLs count."""
        self._origins = {origin for url in urls if (origin := _origin(url)) is not None}
        self._hosts = hosts or AllowedHosts()
        # Two requests of each call ask for the same few.
        self._is_allowed = functools.lru_cache(_MOST_ORIGINS)(self._allows)

    def check(self, url: str) -> None:
        """Raise `PolicyViolation` for a private address that nobody allowed, before it is connected to."""
        parts = urlsplit(url)
        if not self._is_allowed(parts.scheme, parts.netloc):
            host = plain_host(parts.hostname or "")
            raise PolicyViolation(
                ErrorKind.ENDPOINT_NOT_ALLOWED,
                f"{host[:100]!r}, where LiteLLM looks for this provider, is a private host that neither "
                "the worker's environment nor LLM_QUEUE_ALLOWED_HOSTS names",
            )

    def _allows(self, scheme: str, netloc: str) -> bool:
        url = f"{scheme}://{netloc}"
        host = plain_host(urlsplit(url).hostname or "")
        return not is_private(host) or self._hosts.admits(host) or _origin(url) in self._origins


class NoAddresses(Addresses):
    """Refuses every address."""

    def check(self, url: str) -> None:
        raise PolicyViolation(ErrorKind.ENDPOINT_NOT_ALLOWED, "this is no call of a provider")


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, plain_host(parts.hostname), port or {"http": 80, "https": 443}[parts.scheme]


@dataclass(frozen=True)
class ClientRules:
    """What the HTTP clients of a worker may do for a call."""

    addresses: Addresses = field(default_factory=Addresses)
    #: The most bytes of a whole answer, an error or a line of a stream.
    max_answer_bytes: int = 16_000_000
    #: Answers are chat completions, whose JSON is put right on its way in.
    mends: bool = True


@dataclass(slots=True)
class Exchange:
    """How far the HTTP requests of one call have come: shows whether a failure is the provider's or ours."""

    rules: ClientRules
    #: The provider has begun an answer that is no error: a failure to read it may be the answer's fault.
    answered: bool = False
    #: What this worker itself refused or cut off; LiteLLM's clients do not always pass it on.
    fault: Exception | None = None
    #: The call has ended: HTTP clients work for somebody else.
    over: bool = False
    #: The provider's limits as its headers give them, by header, in small letters.
    limit_headers: Mapping[str, str] = field(default_factory=dict)
    #: Its whole answer is too long, or has too many values, to be read on the event loop.
    large: bool = False
    #: A large answer ends the call on the event loop, and is read again in a thread (`read_aside`).
    reads_aside: bool = False
    #: The answers to its requests so far; where they are to be read again, nothing is sent any more.
    answers: list[httpx.Response] = field(default_factory=list)
    replays: bool = False

    def answered_before(self, request: httpx.Request) -> httpx.Response:
        """The answer to an equal request of the first reading."""
        for answer in self.answers:
            if (answer.request.method, answer.request.url) == (request.method, request.url):
                return answer
        raise RuntimeError("a request that was not made when its answer was first read")

    def note_limits(self, headers: Mapping[str, str]) -> None:
        """Keep what an answer's headers report of the provider's limits."""
        found = {name.lower(): value for name, value in headers.items() if "ratelimit-" in name.lower()}
        self.limit_headers = dict(list(found.items())[:_MOST_HEADERS])
        if found and (date := headers.get("date")):
            # What the moments among them are to be held against.
            self.limit_headers = {**self.limit_headers, "date": date}


_latest: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextmanager
def exchange(rules: ClientRules) -> Iterator[None]:
    """In here the HTTP clients work for a call: in the current task, and in the threads it starts."""
    begun = Exchange(rules)
    _latest.set(begun)
    try:
        yield
    finally:
        begun.over = True


@contextmanager
def offline() -> Iterator[None]:
    """In here no HTTP client of the current task connects to anything."""
    token = _latest.set(Exchange(ClientRules(addresses=NoAddresses())))
    try:
        yield
    finally:
        _latest.reset(token)


def note_exchange(*, answered: bool, fault: Exception | None = None) -> None:
    """Note for the current task how far a call came that another task made for it."""
    _latest.set(Exchange(ClientRules(), answered, fault, over=True))


def forget_exchange() -> None:
    """The current task has no call any more that a failure could be of."""
    _latest.set(None)


def current_exchange() -> Exchange | None:
    """The call that the HTTP clients work for here."""
    found = _latest.get()
    return None if found is None or found.over else found


def fault_of_the_exchange() -> Exception | None:
    """What this worker itself refused or cut off in the current task's latest call."""
    found = _latest.get()
    return None if found is None else found.fault


@contextmanager
def noting_faults(begun: Exchange, *faults: type[Exception]) -> Iterator[None]:
    """In here, note what is raised of these."""
    try:
        yield
    except faults as fault:
        begun.fault = fault
        raise


def answer_has_begun() -> bool:
    """Whether the current task's latest call has been answered, with a status that is no error's."""
    found = _latest.get()
    return found is not None and found.answered


def answer_is_large() -> bool:
    """Whether the current task's latest call has an answer that is not to be read on the event loop."""
    found = _latest.get()
    return found is not None and found.large


def limit_headers() -> Mapping[str, str]:
    """The limits that the current task's latest call received from its provider, by header."""
    found = _latest.get()
    return {} if found is None else found.limit_headers
