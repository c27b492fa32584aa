from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from litellm import CustomStreamWrapper
from openai.types.chat import ChatCompletionChunk

from ...pool.inline_executor import in_thread_if
from ..answers.gemini_form import plain_gemini_chunk
from ..answers.json_value import Cleaner
from ..answers.openai_form import mend_openai_form
from ..failures.kinds import MalformedAnswer
from ..wire.exchange import answer_is_large
from ..wire.guarded_body import events_of
from . import seam


class LiteLLMStream:
    """What a provider's stream yields below LiteLLM's wrapper, each item in OpenAI's form.

    The wrapper itself looks at the first choice only, drops refusals, and invents a finish reason where
    the provider gave none; it reads only items whose form is not known here.
    """

    def __init__(self, wrapper: CustomStreamWrapper, *, reads_events: bool = False) -> None:
        """With `reads_events` a provider's events are read once, here, where their form is known."""
        self._wrapper, self._reads_events = wrapper, reads_events
        self.provider: str | None = wrapper.custom_llm_provider
        # What did not come as lines of JSON has not been cleaned yet.
        self._cleaner = Cleaner()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any] | None]:
        """Items; None for one that says nothing. Raises what LiteLLM makes of a provider's failure."""
        if self._wrapper.completion_stream is None:
            # Some providers' calls are made only now.
            fetch: Callable[[], Awaitable[object]] = self._wrapper.fetch_stream
            await fetch()
        source = self._wrapper.completion_stream
        if (events := self._events(source)) is not None:
            # With a cap on its output LiteLLM counts what came, to go on where Gemini stopped.
            of_gemini = type(source) is seam.GEMINI_STREAM and source._output_cap is None
            async for event in events:
                plain = plain_gemini_chunk(event) if of_gemini else None
                yield plain or await self._done(lambda event: self._read(source.chunk_parser(event)), event)
            # What LiteLLM does at the end of a stream is left to it.
            source.streaming_response = _nothing()
        async for item in source:
            yield await self._done(self._read, item)
        # LiteLLM waits for the rest of a broken chunk until the stream is over.
        if type(source) in seam.EVENT_STREAMS and source._json_buffer:
            raise MalformedAnswer("the provider's stream holds a chunk that is not JSON")

    async def aclose(self) -> None:
        """Close the provider's connection."""
        close: Callable[[], Awaitable[None]] = self._wrapper.aclose
        await close()

    async def _done[T](self, read: Callable[[Any], T], item: Any) -> T:
        # In a stream with a large event more are to be expected.
        return await in_thread_if(answer_is_large(), lambda: read(item))

    def _events(self, source: Any) -> AsyncIterator[dict[str, Any]] | None:
        """The provider's events, where each is given to the parser of `source` as it is."""
        if not self._reads_events:
            return None
        if isinstance(source, seam.BaseModelResponseIterator):
            reads_lines = all(
                getattr(type(source), name) is getattr(seam.BaseModelResponseIterator, name)
                for name in ("__anext__", "_handle_string_chunk")
            )
            response = source.http_response if reads_lines else None
        else:
            name = seam.EVENT_STREAMS.get(type(source))
            response = None if name is None else getattr(source, name)
        return None if response is None else events_of(response)

    def _read(self, item: Any) -> dict[str, Any] | None:
        if item is None:
            return None
        if isinstance(item, ChatCompletionChunk | seam.ModelResponseStream):
            raw = item.model_dump(exclude_none=True)
        elif isinstance(item, Mapping) and "is_finished" in item:
            if _is_empty(item):
                return None
            raw = _from_generic(item)
        else:
            processed = self._wrapper.chunk_creator(chunk=item)
            if processed is None:
                return None
            raw = processed.model_dump(exclude_none=True)
        cleaned: dict[str, Any] = self._cleaner.clean(raw)
        # LiteLLM passes on what it has read of other forms, whatever its type.
        mend_openai_form(cleaned, streamed=True)
        return cleaned


async def _nothing() -> AsyncIterator[str]:
    return
    yield


def _is_empty(item: Mapping[str, Any]) -> bool:
    """Whether it stands for a line of a stream with nothing in it, such as the one between two events."""
    parts = ("text", "is_finished", "tool_use", "usage", "provider_specific_fields")
    return not any(item.get(name) for name in parts)


def _from_generic(item: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's own form of a chunk, which several providers' parsers return."""
    delta: dict[str, Any] = {"content": item.get("text") or ""}
    if tool := item.get("tool_use"):
        delta["tool_calls"] = [dict(tool)]
    if fields := dict(item.get("provider_specific_fields") or {}):
        if reasoning := fields.pop("reasoning_content", None):
            delta["reasoning_content"] = reasoning
        delta["provider_specific_fields"] = fields
    reason = item.get("finish_reason") if item.get("is_finished") else None
    choice = {"index": item.get("index") or 0, "delta": delta, "finish_reason": reason or None}
    return {"choices": [choice], "usage": item.get("usage")}
