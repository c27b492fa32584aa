"""Calls in OpenAI's form, without what LiteLLM does around them, and without OpenAI's SDK."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx

from ...pool.inline_executor import in_thread_if
from ..failures.litellm_error import named_error
from ..targets.credentials import Target
from ..wire.exchange import answer_is_large
from . import seam
from .event_stream import EventStream
from .fast_post import Post
from .sdk_answers import cut_short, cut_short_stream, leaves_no_room, refusal
from .short_request import (
    OUR_ARGUMENTS,
    PLAIN_PARAMETERS,
    PROVIDERS,
    ShortRequest,
    asked_parameters,
    name_there,
    short_request,
)

#: Headers that OpenAI's SDK takes from these, and LiteLLM's own client does not.
ONLY_THE_SDK_READS = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
SET_FOR_EACH = ("authorization", "content-type")


class _Unlogged:
    """Stands where LiteLLM keeps what its callbacks read."""

    def post_call(self, **_: object) -> None:
        """Nobody listens."""


_UNLOGGED = _Unlogged()


def fits(target: Target, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `lean_completion` of these arguments gives what `litellm.acompletion` would."""
    return (
        target.provider in PROVIDERS
        and not target.routed
        and arguments.keys() <= PLAIN_PARAMETERS | OUR_ARGUMENTS
        and not any(name.lower() in SET_FOR_EACH for name in arguments.get("extra_headers") or ())
        and not (target.provider == "openai" and any(environment.get(name) for name in ONLY_THE_SDK_READS))
        and name_there(target.provider, *asked_parameters(arguments)) is not None
    )


async def lean_completion(provider: str, arguments: Mapping[str, Any]) -> object:
    """One whole answer of a provider that speaks OpenAI's chat completions.

    The checks, the translation, the HTTP client and the exceptions are LiteLLM's own. What
    `litellm.acompletion` does around them, for callbacks, caches, other providers and OpenAI's SDK, is
    left out: it takes half of a call's CPU, and most of the memory of a call that waits. Holds for the
    pinned release of LiteLLM, and only for arguments that `fits`.
    """
    try:
        request = short_request(provider, arguments)
        try:
            response = await request.post.answer()
        except Exception as error:
            if not (request.by_the_sdk and leaves_no_room(error)):
                raise
            _, answer = await cut_short(error, request.post.body)
            return seam.convert_to_model_response_object(
                response_object=answer, model_response_object=seam.ModelResponse()
            )
        return await in_thread_if(answer_is_large(), lambda: _read(request, response))
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error


async def lean_stream(provider: str, arguments: Mapping[str, Any]) -> EventStream:
    """The same for a stream, which has begun."""
    try:
        request = short_request(provider, arguments, streamed=True)
        try:
            return await request.post.events()
        except Exception as error:
            if not (request.by_the_sdk and leaves_no_room(error)):
                raise
            return await cut_short_stream(error, request.post.body, provider)
    except Exception as error:
        raise named_error(error, model=arguments["model"], provider=provider) from error


def _read(request: ShortRequest, response: httpx.Response) -> object:
    try:
        return _translated(request.post, response)
    except Exception:
        refused = refusal(response) if request.by_the_sdk else None
        if refused is None:
            raise
    # Out of the handler: an error that has another behind it is taken for what that is.
    raise refused


def _translated(post: Post, response: httpx.Response) -> object:
    return post.config.transform_response(
        model=post.body["model"],
        raw_response=response,
        model_response=seam.ModelResponse(),
        logging_obj=_UNLOGGED,
        request_data=post.body,
        messages=post.body["messages"],
        optional_params={},
        litellm_params={},
        encoding=None,
    )
