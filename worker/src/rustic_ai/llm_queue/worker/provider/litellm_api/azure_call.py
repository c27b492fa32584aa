"""Whole answers of Azure without OpenAI's SDK, whose client LiteLLM's handler of Azure goes through."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import litellm
import openai

from ..wire.bodies import LARGE_BYTES
from . import seam
from .fast_post import post
from .sdk_answers import cut_short, leaves_no_room, parsed

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
    params = dict(context.optional_params)
    as_json = params.pop("json_mode", False)
    params.pop("max_retries", None)
    extra = params.pop("extra_body", None) or {}
    body = context.provider_config.transform_request(
        model=context.model,
        messages=context.messages,
        optional_params=params,
        litellm_params=context.litellm_params,
        headers=context.headers,
    )
    try:
        headers, answer = await _posted(url, context, {**body, **extra})
    except openai.APIStatusError:
        raise
    except Exception as error:
        raise seam.AzureOpenAIError(
            status_code=500, message=getattr(error, "message", str(error)), body=getattr(error, "body", None)
        ) from error
    return seam.convert_to_model_response_object(
        response_object=answer,
        model_response_object=context.model_response,
        hidden_params={"headers": headers},
        convert_tool_call_to_json_mode=as_json,
        _response_headers=headers,
    )


async def _posted(url: str, context: Any, body: Mapping[str, Any]) -> tuple[dict[str, str], object]:
    headers = {**context.headers, "api-key": context.api_key, "content-type": "application/json"}
    try:
        response = await post(
            url, headers, body, timeout_s=context.timeout, provider=litellm.LlmProviders.AZURE
        )
    except httpx.HTTPStatusError as error:
        failed = _status_error(error.response)
        if not leaves_no_room(failed):
            raise failed from None
        return await cut_short(failed, body)
    except httpx.TimeoutException as error:
        raise openai.APITimeoutError(error.request) from error
    except Exception as error:
        raise openai.APIConnectionError(request=httpx.Request("POST", url)) from error
    # All other calls of the worker wait for what is done on its loop.
    read = asyncio.to_thread(_read, response) if len(response.content) > LARGE_BYTES else None
    return dict(response.headers), _read(response) if read is None else await read


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
