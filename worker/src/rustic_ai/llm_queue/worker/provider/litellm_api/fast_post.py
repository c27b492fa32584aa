from __future__ import annotations

import functools
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import litellm

from ..wire.clients import check_request, take_answer, take_events
from ..wire.exchange import ClientRules, Exchange, current_exchange
from . import seam
from .event_stream import EventStream

_FAILED = 400
_MOST_URLS = 1024
_url = functools.lru_cache(_MOST_URLS)(httpx.URL)


@dataclass(frozen=True, slots=True)
class Post:
    """One POST by LiteLLM's client for `provider`.

    It goes past httpx's redirects, cookies and logins: no provider call may use them.
    """

    url: str
    provider: litellm.LlmProviders
    timeout_s: float
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    #: LiteLLM's translation for the provider, whose errors a failure becomes. Without one httpx's are raised,
    #: `HTTPStatusError` among them, and those of the worker's rules.
    config: Any = field(default=None, repr=False)

    async def answer(self) -> httpx.Response:
        """The answer, read to the end. Raises as `config` says."""
        return await self._named(self._answer())

    async def events(self) -> EventStream:
        """The answer in events, which are still to come. Raises as `config` says."""
        return await self._named(self._events())

    async def _named[T](self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except Exception as error:
            if self.config is None:
                raise
            described = await _described(error, self.provider.value)
            raise seam.provider_error(e=described, provider_config=self.config) from error

    async def _answer(self) -> httpx.Response:
        exchange = current_exchange() or Exchange(ClientRules())
        response = await self._send(exchange)
        await _read(response, exchange)
        return response.raise_for_status()

    async def _events(self) -> EventStream:
        exchange = current_exchange() or Exchange(ClientRules())
        response = await self._send(exchange)
        if response.status_code >= _FAILED:
            await _read(response, exchange)
            response.raise_for_status()
        return EventStream(take_events(response, exchange), self.provider.value, response)

    async def _send(self, exchange: Exchange) -> httpx.Response:
        handler = seam.get_async_httpx_client(self.provider, params={"ssl_verify": None})
        client: Any = handler.client
        request = client.build_request(
            "POST",
            _url(self.url),
            content=json.dumps(self.body),
            headers=self.headers,
            timeout=self.timeout_s,
        )
        check_request(request, exchange)
        transport: httpx.AsyncBaseTransport = seam.transport_for_url(client, request.url)
        response = await transport.handle_async_request(request)
        response.request = request
        return response


async def _read(response: httpx.Response, exchange: Exchange) -> None:
    try:
        take_answer(response, exchange, streamed=False)
        await response.aread()
    except BaseException:
        await response.aclose()
        raise


async def _described(error: Exception, provider: str) -> Exception:
    """`error` as LiteLLM's client would raise it."""
    if isinstance(error, httpx.TimeoutException):
        return litellm.Timeout(str(error), model="", llm_provider=provider)
    if not isinstance(error, httpx.HTTPStatusError):
        return error
    try:
        await seam.raise_masked_async_error(error, False)
    except httpx.HTTPStatusError as described:
        return described
    return error
