from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import PrivateAttr
from rustic_ai.core.knowledgebase.chunks import ChunkBase
from rustic_ai.core.knowledgebase.model import Knol
from rustic_ai.core.knowledgebase.pipeline_executor import (
    EmittedRow,
    PipelineExecutor,
    ResolvedPipeline,
    SimplePipelineExecutor,
)
from rustic_ai.core.knowledgebase.plugins import ChunkerPlugin

_MOST_AT_ONCE = 256


class ConcurrentPipelineExecutor(PipelineExecutor):
    """Carries out a knowledge base's pipelines as core's SimplePipelineExecutor does, many chunks at once.

    Core's embeds a chunk, waits for its vector, and only then looks at the next one. The rows and their
    order are the same.
    """

    def __init__(self, most_at_once: int = _MOST_AT_ONCE) -> None:
        """Take up the next chunk while others wait for their vectors.

        Args:
            most_at_once: chunks under way.
        """
        self._most = most_at_once
        self._simple = SimplePipelineExecutor()

    async def rows_for_knol(
        self, *, knol: Knol, fs: Any, library_path: str, pipelines: Sequence[ResolvedPipeline]
    ) -> AsyncIterator[EmittedRow]:
        """The rows of a knol, in the order of its chunks."""
        groups: dict[tuple[str, str], list[ResolvedPipeline]] = {}
        for pipeline in pipelines:
            groups.setdefault((pipeline.chunker_id, pipeline.policy_version), []).append(pipeline)
        under_way: deque[asyncio.Task[list[EmittedRow]]] = deque()
        try:
            for group in groups.values():
                async for chunk in group[0].chunker.split(knol, fs=fs, library_path=library_path):
                    rows = self._rows(chunk, group, knol=knol, fs=fs, library_path=library_path)
                    under_way.append(asyncio.create_task(rows))
                    if len(under_way) >= self._most:
                        for row in await under_way.popleft():
                            yield row
            while under_way:
                for row in await under_way.popleft():
                    yield row
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _rows(
        self, chunk: ChunkBase, group: Sequence[ResolvedPipeline], **where: Any
    ) -> list[EmittedRow]:
        """What core's executor makes of a knol that has this one chunk."""
        chunker = _OneChunk.of(chunk)
        pipelines = [pipeline.model_copy(update={"chunker": chunker}) for pipeline in group]
        return [row async for row in self._simple.rows_for_knol(pipelines=pipelines, **where)]


class _OneChunk(ChunkerPlugin):
    _chunk: ChunkBase = PrivateAttr()

    @classmethod
    def of(cls, chunk: ChunkBase) -> _OneChunk:
        chunker = cls(id="one")
        chunker._chunk = chunk
        return chunker

    async def split(self, knol: Knol, *, fs: Any, library_path: str = "library") -> AsyncIterator[ChunkBase]:
        yield self._chunk
