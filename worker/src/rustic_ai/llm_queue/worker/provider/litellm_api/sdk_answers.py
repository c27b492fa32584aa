"""What OpenAI's SDK, and LiteLLM around it, make of answers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from ..answers.openai_form import mend_openai_form
from . import seam
from .event_stream import EventStream

_BAD_REQUEST = 400


def leaves_no_room(error: Exception) -> bool:
    """Whether a model was refused because its limit of tokens has no room for a word of the answer."""
    status = getattr(error, "status_code", None)
    return status == _BAD_REQUEST and seam.is_output_token_limit_error(error)


async def cut_short(error: Exception, body: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and answer that stand for such an `error`: no word, and `length` for the reason."""
    # It counts the prompt's tokens; all other calls of the worker wait for what is done on its loop.
    headers, answer = await asyncio.to_thread(
        seam.build_output_token_limit_response, e=error, data=body, is_async=True, base_model=None
    )
    return dict(headers), answer.model_dump(exclude_unset=True)


async def cut_short_stream(error: Exception, body: Mapping[str, Any], provider: str) -> EventStream:
    """The same as a stream of one event."""
    _, answer = await cut_short(error, {**body, "stream": False})

    async def events() -> AsyncIterator[dict[str, Any]]:
        mend_openai_form(answer, streamed=True)
        yield answer

    return EventStream(events(), provider)


def parsed(response: httpx.Response) -> object:
    """The JSON in `response`, or its text, where it does not claim to be JSON. Raises `JSONDecodeError`."""
    try:
        return response.json()
    except ValueError:
        if response.headers.get("content-type", "*").partition(";")[0].endswith("json"):
            raise
        return response.text


def refusal(response: httpx.Response) -> Exception | None:
    """LiteLLM's error of OpenAI's about an answer that is no JSON object; None where it is one."""
    try:
        answer = parsed(response)
    except ValueError as error:
        failed = seam.OpenAIError(status_code=500, message=str(error))
        failed.__cause__ = error
        return failed
    if isinstance(answer, dict):
        return None
    return seam.OpenAIError(
        status_code=500,
        message=f"Empty or invalid response from LLM endpoint. Received: {answer!r}. "
        "Check the reverse proxy or model server configuration.",
    )
