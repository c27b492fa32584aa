from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Protocol

from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler

from ..pool.inline_executor import in_thread_if
from ..settings import WorkerSettings
from .answers.stream_chunks import ChunkReader
from .failures.classify import ProviderFault, StreamIdle, StreamTooLarge
from .failures.litellm_error import named_error
from .targets.credentials import Target
from .wire.exchange import answer_is_large


class ChunkSource(Protocol):
    """What comes of one call, in the form of OpenAI's chunks; None for what says nothing."""

    provider: str | None

    def __aiter__(self) -> AsyncIterator[dict[str, Any] | None]: ...

    async def aclose(self) -> None:
        """Close the provider's connection."""


class ProviderStream:
    """The chunks of one call, in the order in which they come."""

    def __init__(
        self, source: ChunkSource, target: Target, settings: WorkerSettings, *, mocked: bool
    ) -> None:
        self._source = source
        #: LiteLLM plays a `mock_response` without an ending.
        self._mocked = mocked
        self._target = target
        self._idle_s = settings.stream_idle.total_seconds()
        self._max_bytes = settings.stream_max_bytes
        self._begun = False
        self.assembler = AnswerAssembler()

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """OpenAI `chat.completion.chunk` objects, deltas whole.

        Raises `StreamIdle`, `StreamTooLarge`, or what LiteLLM makes of a provider's failure.
        """
        reader = ChunkReader(self._target.model)
        try:
            items = aiter(self._source)
            count = 0
            while (item := await self._next(items)) is not _END:
                self._begun = True
                count += 1
                if not count % _MOST_AT_ONCE:
                    # What has come already is read without waiting, and all other calls wait meanwhile.
                    await asyncio.sleep(0)
                chunk = await in_thread_if(answer_is_large(), partial(self._take, reader, item))
                if chunk is None:
                    continue
                if self.assembler.text_bytes > self._max_bytes:
                    raise StreamTooLarge(f"the provider's stream is longer than {self._max_bytes} bytes")
                yield chunk
            if self._mocked:
                ending = reader.ending()
                self.assembler.add(ending)
                yield ending
        except ProviderFault:
            raise
        except Exception as error:
            provider = self._target.provider or self._source.provider
            raise named_error(error, model=self._target.model, provider=provider) from error

    def _take(self, reader: ChunkReader, item: dict[str, Any] | None) -> dict[str, Any] | None:
        chunk = None if item is None else reader.read(item)
        if chunk is not None:
            self.assembler.add(chunk)
        return chunk

    async def _next(self, items: AsyncIterator[Any]) -> Any:
        try:
            # Before its first word a provider may think for as long as the deadline allows.
            async with asyncio.timeout(self._idle_s if self._begun else None) as silence:
                return await anext(items, _END)
        except TimeoutError:
            if silence.expired():
                raise StreamIdle(f"the provider sent nothing for {self._idle_s:g} s") from None
            raise


#: Chunks read before other calls have their turn: a tenth of a millisecond each.
_MOST_AT_ONCE = 50
_END: Any = object()
