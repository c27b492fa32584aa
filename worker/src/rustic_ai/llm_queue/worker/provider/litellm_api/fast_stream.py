"""Streams in OpenAI's form, read without OpenAI's SDK or LiteLLM's models of each chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..failures.litellm_error import named_error
from .event_stream import EventStream
from .fast_path import PROVIDERS, short_request
from .fast_post import lean_events
from .sdk_answers import cut_short_stream, leaves_no_room


async def lean_stream(provider: str, arguments: Mapping[str, Any]) -> EventStream:
    """A stream of a provider that speaks OpenAI's chat completions, which has begun.

    Request, HTTP client and exceptions are those that LiteLLM's own way has. Holds for the pinned release of
    LiteLLM, and only for arguments that `fits`.
    """
    try:
        request = short_request(provider, arguments, streamed=True)
        try:
            return await lean_events(
                request.url,
                request.headers,
                request.body,
                timeout_s=arguments["timeout"],
                provider=PROVIDERS[provider],
                config=request.config,
            )
        except Exception as error:
            if not (request.by_the_sdk and leaves_no_room(error)):
                raise
            return await cut_short_stream(error, request.body, provider)
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error
