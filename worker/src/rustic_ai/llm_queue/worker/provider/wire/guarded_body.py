from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import httpx

from ...pool.inline_executor import in_thread
from ..failures.kinds import ProviderFault
from .bodies import Body, ErrorBody, LineBody, OpaqueBody, WholeBody
from .events import Events
from .exchange import ClientRules, Exchange, noting_faults
from .inflate import Inflater

#: Of streams: what is read line by line.
_LINES = ("text/", "application/json", "application/x-ndjson", "application/stream+json", "application/jsonl")
_EVENTS = "text/event-stream"


def guard_body(response: httpx.Response, exchange: Exchange, *, streamed: bool) -> None:
    """Bound and mend the body of an answer, which has not been read yet and is `streamed` or read whole.

    Raises `MalformedAnswer` for an encoding that cannot be undone.
    """
    inflater = Inflater(response.headers.get("content-encoding", ""))
    # Its length is not what comes out of here.
    for name in ("content-encoding", "content-length"):
        response.headers.pop(name, None)
    body = _body(response, exchange.rules, streamed=streamed)
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _AsyncGuarded(response.stream, inflater, body, exchange)
    elif isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Guarded(response.stream, inflater, body, exchange)


def read_events(response: httpx.Response, exchange: Exchange) -> AsyncIterator[dict[str, Any]]:
    """The events of an answer that is bounded and mended by nobody yet, as `Events` reads them.

    Raises what `Events` raises, `MalformedAnswer` for an encoding that cannot be undone, and httpx's errors.
    """
    assert isinstance(response.stream, httpx.AsyncByteStream)
    inflater = Inflater(response.headers.get("content-encoding", ""))
    return _events(response.stream, inflater, exchange)


def events_of(response: httpx.Response) -> AsyncIterator[dict[str, Any]] | None:
    """The same of an answer whose body is guarded, and unread; None where it does not call itself events."""
    stream = response.stream
    if not isinstance(stream, _AsyncGuarded):
        return None
    kind = response.headers.get("content-type", "").strip().lower()
    return stream.events() if kind.startswith(_EVENTS) else None


async def _events(
    stream: httpx.AsyncByteStream, inflater: Inflater, exchange: Exchange
) -> AsyncIterator[dict[str, Any]]:
    events = Events(exchange.rules.max_answer_bytes)
    with noting_faults(exchange, ProviderFault):
        async for piece in stream:
            for plain in inflater.feed(piece):
                found = await _done(events.large_with(plain), partial(events.feed, plain))
                exchange.large = exchange.large or events.had_large
                for event in found:
                    yield event
            if events.done:
                return
        for event in await _done(events.large_with(b""), events.end):
            yield event


def _body(response: httpx.Response, rules: ClientRules, *, streamed: bool) -> Body:
    limit = rules.max_answer_bytes
    if response.status_code >= 400:
        return ErrorBody(limit)
    if not streamed:
        return WholeBody(limit, mends=rules.mends)
    kind = response.headers.get("content-type", "text/").strip().lower()
    return LineBody(limit) if kind.startswith(_LINES) else OpaqueBody()


class _AsyncGuarded(httpx.AsyncByteStream):
    def __init__(
        self, stream: httpx.AsyncByteStream, inflater: Inflater, body: Body, exchange: Exchange
    ) -> None:
        self._stream, self._inflater, self._body = stream, inflater, body
        self._exchange = exchange

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """Instead of bytes."""
        return _events(self._stream, self._inflater, self._exchange)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with noting_faults(self._exchange, ProviderFault):
            async for piece in self._stream:
                for plain in self._inflater.feed(piece):
                    large = self._body.large_with(plain)
                    found = await _done(large, partial(self._body.feed, plain))
                    self._exchange.large = self._exchange.large or self._body.had_large
                    for ready in found:
                        yield ready
            for rest in await _done(self._body.large_with(b""), self._body.end):
                yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Guarded(httpx.SyncByteStream):
    def __init__(
        self, stream: httpx.SyncByteStream, inflater: Inflater, body: Body, exchange: Exchange
    ) -> None:
        self._stream, self._inflater, self._body = stream, inflater, body
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        with noting_faults(self._exchange, ProviderFault):
            for piece in self._stream:
                for plain in self._inflater.feed(piece):
                    yield from self._body.feed(plain)
            yield from self._body.end()

    def close(self) -> None:
        self._stream.close()


async def _done[T](large: bool, step: Callable[[], Iterator[T]]) -> Iterable[T]:
    return await in_thread(lambda: list(step())) if large else step()
