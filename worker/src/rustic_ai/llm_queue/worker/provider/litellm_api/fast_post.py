from __future__ import annotations

import functools
import json
from collections.abc import Mapping
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


async def lean_post(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    provider: litellm.LlmProviders,
    config: Any,
) -> httpx.Response:
    """One POST by LiteLLM's client for `provider`, and its answer, read to the end.

    Bypasses httpx's redirects, cookies and logins: no provider call may use them. Raises the errors of
    `config`, the provider's own in LiteLLM.
    """
    try:
        return await post(url, headers, body, timeout_s=timeout_s, provider=provider)
    except Exception as error:
        raise seam.provider_error(
            e=await _described(error, provider.value), provider_config=config
        ) from error


async def lean_events(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    provider: litellm.LlmProviders,
    config: Any,
) -> EventStream:
    """The same for an answer in events, which are still to come."""
    try:
        return await open_events(url, headers, body, timeout_s=timeout_s, provider=provider)
    except Exception as error:
        raise seam.provider_error(
            e=await _described(error, provider.value), provider_config=config
        ) from error


async def post(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    provider: litellm.LlmProviders,
) -> httpx.Response:
    """The same. Raises httpx's errors, `HTTPStatusError` among them, and those of the worker's rules."""
    exchange = current_exchange() or Exchange(ClientRules())
    response = await _sent(url, headers, body, timeout_s, provider, exchange)
    await _read(response, exchange)
    return response.raise_for_status()


async def open_events(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    provider: litellm.LlmProviders,
) -> EventStream:
    """The same for an answer in events, which are still to come. Raises what `post` does."""
    exchange = current_exchange() or Exchange(ClientRules())
    response = await _sent(url, headers, body, timeout_s, provider, exchange)
    if response.status_code >= _FAILED:
        await _read(response, exchange)
        response.raise_for_status()
    return EventStream(take_events(response, exchange), provider.value, response)


async def _sent(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    timeout_s: float,
    provider: litellm.LlmProviders,
    exchange: Exchange,
) -> httpx.Response:
    handler = seam.get_async_httpx_client(provider, params={"ssl_verify": None})
    client: Any = handler.client
    request = client.build_request(
        "POST", _url(url), content=json.dumps(body), headers=headers, timeout=timeout_s
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
