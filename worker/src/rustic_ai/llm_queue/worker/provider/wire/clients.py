from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import httpx

from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation

from ..litellm_api import seam
from .exchange import Exchange, current_exchange, noting_faults
from .guarded_body import guard_body, read_events
from .inflate import ACCEPTED
from .large_answers import LargeAnswer


def guard_clients() -> None:
    """Make every HTTP client of this process keep the worker's rules. Doing it twice is safe.

    No client follows a redirect: the owner of a `base_url` could otherwise send the worker on to an
    address inside, and a provider's redirect would take along keys that stand in headers of its own.
    For a call, no client connects to a private address that the operator did not name, and every body
    is bounded and mended.
    """
    for client, guarded in ((httpx.Client, _guarded), (httpx.AsyncClient, _guarded_async)):
        send: Any = client.send
        if not hasattr(send, "__wrapped__"):
            client.send = guarded(send)  # type: ignore[method-assign]  # no option reaches every client
    seam.AIOHTTP_REQUEST.replace(_without_redirects)


def check_request(request: httpx.Request, exchange: Exchange) -> None:
    """Raise `PolicyViolation` unless a call may make this request. Asks for an encoding it can bound."""
    with noting_faults(exchange, PolicyViolation):
        exchange.rules.addresses.check(str(request.url))
    request.headers["accept-encoding"] = ACCEPTED


def take_answer(response: httpx.Response, exchange: Exchange, *, streamed: bool) -> None:
    """Note that an answer has begun, and guard its body."""
    exchange.answered = exchange.answered or response.status_code < 400
    exchange.note_limits(response.headers)
    guard_body(response, exchange, streamed=streamed)


def take_events(response: httpx.Response, exchange: Exchange) -> AsyncIterator[dict[str, Any]]:
    """Note that an answer has begun that is no error, and read its events in OpenAI's form."""
    exchange.answered = True
    exchange.note_limits(response.headers)
    return read_events(response, exchange)


def _guarded(send: Any) -> Any:
    @functools.wraps(send)
    def guarded(self: Any, request: httpx.Request, *, stream: bool = False, **options: Any) -> Any:
        options["follow_redirects"] = False
        exchange = current_exchange()
        if exchange is None:
            return send(self, request, stream=stream, **options)
        if exchange.replays:
            return exchange.answered_before(request)
        if _on_the_event_loop():
            raise RuntimeError("a request that would hold up the event loop, and all its calls")
        check_request(request, exchange)
        response = send(self, request, stream=True, **options)
        try:
            take_answer(response, exchange, streamed=stream)
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response

    return guarded


def _guarded_async(send: Any) -> Any:
    @functools.wraps(send)
    async def guarded(self: Any, request: httpx.Request, *, stream: bool = False, **options: Any) -> Any:
        options["follow_redirects"] = False
        exchange = current_exchange()
        if exchange is None:
            return await send(self, request, stream=stream, **options)
        if exchange.replays:
            return exchange.answered_before(request)
        check_request(request, exchange)
        response = await send(self, request, stream=True, **options)
        try:
            take_answer(response, exchange, streamed=stream)
            if not stream:
                await response.aread()
                exchange.answers.append(response)
                if exchange.large and exchange.reads_aside:
                    raise LargeAnswer
        except BaseException:
            await response.aclose()
            raise
        return response

    return guarded


async def _without_redirects(self: Any, method: str, url: Any, **options: Any) -> Any:
    """In the place of aiohttp's own, below all its methods."""
    exchange = current_exchange()
    if exchange is not None:
        exchange.rules.addresses.check(str(url))
    return await seam.AIOHTTP_REQUEST.original(self, method, url, **{**options, "allow_redirects": False})


def _on_the_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
