from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import httpx
import litellm

from ..wire.clients import check_request, take_answer
from ..wire.exchange import ClientRules, Exchange, current_exchange
from . import seam

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


async def post(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    timeout_s: float,
    provider: litellm.LlmProviders,
) -> httpx.Response:
    """The same. Raises httpx's errors, `HTTPStatusError` among them, and those of the worker's rules."""
    handler = seam.get_async_httpx_client(provider, params={"ssl_verify": None})
    client: Any = handler.client
    request = client.build_request(
        "POST", _url(url), content=json.dumps(body), headers=headers, timeout=timeout_s
    )
    return await _answer(seam.transport_for_url(client, request.url), request)


async def _answer(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    exchange = current_exchange() or Exchange(ClientRules())
    check_request(request, exchange)
    response = await transport.handle_async_request(request)
    try:
        take_answer(response, exchange, streamed=False)
        await response.aread()
    except BaseException:
        await response.aclose()
        raise
    response.request = request
    return response.raise_for_status()


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
