from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import Field, PrivateAttr
from rustic_ai.core.knowledgebase.chunks import ChunkBase, TextChunk
from rustic_ai.core.knowledgebase.model import Vector
from rustic_ai.core.knowledgebase.plugins import EmbedderPlugin

from rustic_ai.llm_queue.tasks.owner import Owner

from ..call.guild_messages import current_owner
from ..configuration_error import ConfigurationError
from ..exceptions import InvalidRequest
from .embeddings import QueueEmbeddings
from .resolver import QueueEmbeddingsResolver
from .window import TextWindow

#: The owner of jobs that no agent's processor asks for.
_NOBODY = Owner(org="default", guild="knowledge-base", agent="embedder")
_DEFAULT_BATCH = 256
#: Where a knowledge base's configuration finds the class.
_PUBLIC_MODULE = "rustic_ai.llm_queue.resolver"


class QueueEmbedder(EmbedderPlugin):
    """A knowledge base's embedder whose vectors come through the queue.

    Chunks that are embedded at the same time share jobs, whether `embed_many` is called with them or `embed`
    with each. A job belongs to the agent whose processor embeds, or to the `owner` given here.
    """

    properties: dict[str, Any] = Field(
        default_factory=dict, description="A QueueEmbeddingsResolver's properties, `model` first of all"
    )
    owner: dict[str, str] | None = Field(
        default=None, description='{"org": …, "guild": …, "agent": …}; by default the calling agent'
    )
    max_batch_size: int = Field(default=_DEFAULT_BATCH, ge=0, description="Most texts of a job; 0 for 256")

    _resolver: QueueEmbeddingsResolver = PrivateAttr()
    _windows: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Owner, TextWindow]] = PrivateAttr(
        default_factory=WeakKeyDictionary
    )

    def model_post_init(self, context: Any, /) -> None:
        """Raises pydantic's `ValidationError` naming each property that is wrong."""
        super().model_post_init(context)
        if self.owner is not None and set(self.owner) != set(Owner.model_fields):
            raise ConfigurationError('owner: give {"org": …, "guild": …, "agent": …}, or leave it out')
        self._resolver = QueueEmbeddingsResolver(**self.properties)

    def supports_mimetype(self, mimetype: str) -> bool:
        """Text, and what core's own text embedders take for it."""
        return mimetype.partition("/")[0].lower() in {"text", "application"}

    async def embed(self, chunk: ChunkBase, *, fs: Any, library_path: str = "library") -> list[float]:
        """The chunk's vector. Raises `InvalidRequest` for a chunk without text, or a `QueueError`."""
        text = await self._text(chunk, fs, library_path)
        loop, owner = asyncio.get_running_loop(), self._owner()
        windows = self._windows.setdefault(loop, {})
        if owner not in windows:
            windows[owner] = TextWindow(self._embeddings(owner).aembed, most_texts=self._most)
        return await windows[owner].vector_of(text)

    async def embed_many(
        self, chunks: list[ChunkBase], *, fs: Any, library_path: str = "library"
    ) -> list[Vector]:
        """The chunks' vectors, in as many jobs as it takes."""
        texts = [await self._text(chunk, fs, library_path) for chunk in chunks]
        vectors = await self._embeddings(self._owner()).aembed(texts)
        return [self._validate_and_optionally_normalize(vector) for vector in vectors]

    async def embed_seq(
        self, chunks: AsyncIterable[ChunkBase], *, fs: Any, library_path: str = "library"
    ) -> AsyncIterable[Vector]:
        """The chunks' vectors as they come, so many chunks at a time."""
        gathered: list[ChunkBase] = []
        async for chunk in chunks:
            gathered.append(chunk)
            if len(gathered) == self._most:
                for vector in await self.embed_many(gathered, fs=fs, library_path=library_path):
                    yield vector
                gathered = []
        for vector in await self.embed_many(gathered, fs=fs, library_path=library_path):
            yield vector

    @property
    def _most(self) -> int:
        return self.max_batch_size or _DEFAULT_BATCH

    def _owner(self) -> Owner:
        if self.owner is not None:
            return Owner(**self.owner)
        return current_owner() or _NOBODY

    def _embeddings(self, owner: Owner) -> QueueEmbeddings:
        return self._resolver.resolve(owner.org, owner.guild, owner.agent)

    async def _text(self, chunk: ChunkBase, fs: Any, library_path: str) -> str:
        if not isinstance(chunk, TextChunk):
            raise InvalidRequest(f"chunk {chunk.id!r}: a {chunk.kind} has no text; project it to text first")
        raw = await self.get_chunk_bytes(chunk, fs, library_path)
        text = bytes(raw).decode(chunk.encoding or "utf-8", errors="ignore")
        if not text:
            raise InvalidRequest(f"chunk {chunk.id!r}: it holds no text")
        return text


# A configuration names a plugin's class by its module, and Rustic holds the two against each other.
QueueEmbedder.__module__ = _PUBLIC_MODULE
