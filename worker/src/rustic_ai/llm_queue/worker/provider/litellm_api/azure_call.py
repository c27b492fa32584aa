"""Azure without OpenAI's SDK, whose client LiteLLM's handler of Azure goes through."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import litellm
import openai
from litellm import LlmProviders

from ...pool.inline_executor import in_thread_if
from ..wire.exchange import answer_is_large
from . import seam
from .event_stream import EventStream
from .fast_post import Post
from .sdk_answers import cut_short, cut_short_stream, leaves_no_room, parsed

#: They bring a second credential or a header along, by the SDK.
_ONLY_THE_SDK_READS = (
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_PASSWORD",
    "OPENAI_CUSTOM_HEADERS",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
)
_SET_FOR_EACH = ("api-key", "authorization", "content-type")
#: In addresses and versions that mean another form of the URL.
_OTHER_URLS = ("/openai", "gateway.ai.cloudflare.com")
_OTHER_VERSIONS = ("latest", "preview", "v1")
#: Parameters for LiteLLM itself.
_NOT_SENT = ("json_mode", "max_retries")
_PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
_MOST_URLS = 1024


def azure_url(context: Any, environment: Mapping[str, str] = os.environ) -> str | None:
    """Where `azure_answer` would send the call of `context`; None where the SDK does more than that."""
    base = context.api_base or environment.get("AZURE_API_BASE")
    version = context.api_version or environment.get("AZURE_API_VERSION") or litellm.AZURE_DEFAULT_API_VERSION
    if (
        not base
        or any(part in base for part in _OTHER_URLS)
        or version in _OTHER_VERSIONS
        or not _PLAIN_NAME.fullmatch(context.model)
        or isinstance(context.provider_config, litellm.AzureOpenAIO1Config)
        or any(environment.get(name) for name in _ONLY_THE_SDK_READS)
        or any(name.lower() in _SET_FOR_EACH for name in context.headers)
    ):
        return None
    return _url(base, context.model, version)


async def azure_answer(url: str, context: Any) -> object:
    """What LiteLLM's handler of Azure makes of the same `context`, failures included."""
    body = _body(context)
    with _named_by_the_handler():
        headers, answer = await _posted(url, context, body)
    translate = partial(
        seam.convert_to_model_response_object,
        response_object=answer,
        model_response_object=context.model_response,
        hidden_params={"headers": headers},
        convert_tool_call_to_json_mode=context.optional_params.get("json_mode", False),
        _response_headers=headers,
    )
    return await in_thread_if(answer_is_large(), translate)


async def azure_events(url: str, context: Any) -> EventStream:
    """The same for a stream, which has begun."""
    body = _body(context)
    with _named_by_the_handler():
        try:
            with _named_by_the_sdk(url):
                return await _post(url, context, body).events()
        except openai.APIStatusError as error:
            if not leaves_no_room(error):
                raise
            return await cut_short_stream(error, body, "azure")


def _body(context: Any) -> dict[str, Any]:
    params = {name: value for name, value in context.optional_params.items() if name not in _NOT_SENT}
    extra = params.pop("extra_body", None) or {}
    body = context.provider_config.transform_request(
        model=context.model,
        messages=context.messages,
        optional_params=params,
        litellm_params=context.litellm_params,
        headers=context.headers,
    )
    return {**body, **extra}


def _post(url: str, context: Any, body: dict[str, Any]) -> Post:
    headers = {**context.headers, "api-key": context.api_key, "content-type": "application/json"}
    return Post(url, LlmProviders.AZURE, context.timeout, headers, body)


async def _posted(url: str, context: Any, body: dict[str, Any]) -> tuple[dict[str, str], object]:
    try:
        with _named_by_the_sdk(url):
            response = await _post(url, context, body).answer()
    except openai.APIStatusError as error:
        if not leaves_no_room(error):
            raise
        return await cut_short(error, body)
    return dict(response.headers), await in_thread_if(answer_is_large(), lambda: _read(response))


@contextmanager
def _named_by_the_sdk(url: str) -> Iterator[None]:
    """In here the failures of a request are raised as OpenAI's SDK raises them."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _status_error(error.response) from None
    except httpx.TimeoutException as error:
        raise openai.APITimeoutError(error.request) from error
    except Exception as error:
        raise openai.APIConnectionError(request=httpx.Request("POST", url)) from error


@contextmanager
def _named_by_the_handler() -> Iterator[None]:
    """In here the SDK's failures, and answers that cannot be read, are raised as LiteLLM's handler does."""
    try:
        yield
    except openai.APIStatusError:
        raise
    except Exception as error:
        raise seam.AzureOpenAIError(
            status_code=500, message=getattr(error, "message", str(error)), body=getattr(error, "body", None)
        ) from error


def _read(response: httpx.Response) -> object:
    answer = parsed(response)
    if not isinstance(answer, dict):
        raise seam.AzureOpenAIError(
            status_code=500, message=f"Unexpected response from Azure: {answer!r:.500}"
        )
    return answer


def _status_error(response: httpx.Response) -> Exception:
    return seam.openai_status_error(_any_client(), response)


@functools.cache
def _any_client() -> openai.AsyncOpenAI:
    """It names errors, and sends nothing."""
    return openai.AsyncOpenAI(api_key="none", http_client=httpx.AsyncClient())


@functools.lru_cache(_MOST_URLS)
def _url(base: str, model: str, version: str) -> str:
    there = f"{base.rstrip('/')}/openai/deployments/{model}/chat/completions"
    return f"{there}?api-version={quote(version, safe='')}"
