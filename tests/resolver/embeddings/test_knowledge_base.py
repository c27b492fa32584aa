"""A knowledge base's embedder and pipelines: what core's give, in fewer jobs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError
from rustic_ai.core.knowledgebase.chunks import AudioChunk, ChunkBase, TextChunk
from rustic_ai.core.knowledgebase.config import build_plugin_map
from rustic_ai.core.knowledgebase.model import Knol
from rustic_ai.core.knowledgebase.pipeline_executor import (
    EmittedRow,
    PipelineExecutor,
    ResolvedPipeline,
    SimplePipelineExecutor,
)
from rustic_ai.core.knowledgebase.plugins import ChunkerPlugin, EmbedderPlugin

from rustic_ai.llm_queue.resolver import (
    BadRequestError,
    ConcurrentPipelineExecutor,
    InvalidRequest,
    QueueEmbedder,
)
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.resolver.testing.vectors import derived_vector
from rustic_ai.llm_queue.tasks.call import Call, EmbeddingCall
from rustic_ai.llm_queue.tasks.owner import Owner

KNOL = Knol(id="k", name="a book", mimetype="text/plain")


def a_chunk(index: int, text: str | None = None) -> TextChunk:
    content = (f"chunk {index}" if text is None else text).encode()
    return text_chunk(index, content)


def text_chunk(index: int, content: bytes) -> TextChunk:
    return TextChunk(
        id=f"c{index}",
        knol_id="k",
        producer_id="p",
        index=index,
        content_bytes=content,
        mimetype="text/plain",
    )


def an_embedder(**fields: Any) -> QueueEmbedder:
    return QueueEmbedder(**{"id": "e", "properties": {"model": "text-embedding-3-small"}, **fields})


def texts(calls: list[Call]) -> list[tuple[str, ...]]:
    return [call.texts for call in calls if isinstance(call, EmbeddingCall)]


class Lines(ChunkerPlugin):
    """A chunk for each of so many lines, of which some are bad."""

    count: int
    bad: tuple[int, ...] = ()

    async def split(self, knol: Knol, *, fs: Any, library_path: str = "library") -> AsyncIterator[ChunkBase]:
        for index in range(self.count):
            yield a_chunk(index, f"bad {index}" if index in self.bad else None)


async def rows(
    executor: PipelineExecutor, embedder: EmbedderPlugin, chunker: ChunkerPlugin
) -> list[EmittedRow]:
    pipeline = ResolvedPipeline(
        id="p", chunker_id="c", policy_version="1", vector_space_id="v", chunker=chunker, embedder=embedder
    )
    return [
        row
        async for row in executor.rows_for_knol(
            knol=KNOL, fs=None, library_path="library", pipelines=[pipeline]
        )
    ]


async def test_chunks_that_are_embedded_at_once_share_a_job(queue: InMemoryQueue) -> None:
    embedder = an_embedder()
    found = await asyncio.gather(*(embedder.embed(a_chunk(at), fs=None) for at in range(100)))
    assert found == [derived_vector(f"chunk {at}") for at in range(100)]
    assert len(queue.calls) == 1


async def test_chunks_come_in_jobs_of_their_batch_size(queue: InMemoryQueue) -> None:
    embedder = an_embedder(max_batch_size=10, normalize=False)
    found = await embedder.embed_many([a_chunk(at) for at in range(25)], fs=None)
    assert found == [derived_vector(f"chunk {at}") for at in range(25)]

    async def chunks() -> AsyncIterator[ChunkBase]:
        for at in range(25):
            yield a_chunk(at)

    queue.reset()
    assert [vector async for vector in embedder.embed_seq(chunks(), fs=None)] == found
    assert [len(one) for one in texts(queue.calls)] == [10, 10, 5]


async def test_a_chunk_without_a_vector_takes_no_other_ones(queue: InMemoryQueue) -> None:
    def vector_of(text: str) -> list[float]:
        if text.startswith("bad"):
            raise ValueError("no such text")
        return derived_vector(text)

    queue.embed_with(vector_of)
    embedder = an_embedder()
    found = await asyncio.gather(
        *(embedder.embed(a_chunk(at, "bad" if at == 5 else None), fs=None) for at in range(16)),
        return_exceptions=True,
    )
    assert isinstance(found.pop(5), BadRequestError)
    assert found == [derived_vector(f"chunk {at}") for at in range(16) if at != 5]


async def test_what_is_no_text_is_refused_by_its_chunk(queue: InMemoryQueue) -> None:
    audio = AudioChunk(
        id="a", knol_id="k", producer_id="p", index=0, content_bytes=b"x", mimetype="audio/wav"
    )
    with pytest.raises(InvalidRequest, match="'a': a audio has no text"):
        await an_embedder().embed(audio, fs=None)
    with pytest.raises(InvalidRequest, match="'c1': it holds no text"):
        await an_embedder().embed(text_chunk(1, b"\xff"), fs=None)
    assert queue.calls == []


@pytest.mark.parametrize("most_at_once", [1, 7, 256])
async def test_the_rows_are_those_of_cores_executor(queue: InMemoryQueue, most_at_once: int) -> None:
    def vector_of(text: str) -> list[float]:
        if text.startswith("bad"):
            raise ValueError("no such text")
        return derived_vector(text)

    queue.embed_with(vector_of)
    chunker = Lines(id="lines", count=40, bad=(3, 17, 39))
    simple = await rows(SimplePipelineExecutor(), an_embedder(), chunker)
    ours = await rows(ConcurrentPipelineExecutor(most_at_once), an_embedder(), chunker)
    assert [(row.chunk_id, row.vectors) for row in ours] == [(row.chunk_id, row.vectors) for row in simple]
    assert len(ours) == 37, "core leaves out a chunk that has no vector"


async def test_a_pipeline_of_many_chunks_is_a_handful_of_jobs(queue: InMemoryQueue) -> None:
    found = await rows(ConcurrentPipelineExecutor(), an_embedder(), Lines(id="lines", count=1_000))
    assert [row.vectors["v"] for row in found] == [derived_vector(f"chunk {at}") for at in range(1_000)]
    assert len(queue.calls) < 1_000 / 5


async def test_a_configuration_names_it_by_its_public_name(queue: InMemoryQueue) -> None:
    spec = {
        "kind": "rustic_ai.llm_queue.resolver.QueueEmbedder",
        "id": "e",
        "dimension": 8,
        "properties": {"model": "text-embedding-3-small"},
        "owner": {"org": "o", "guild": "g", "agent": "a"},
    }
    embedder = build_plugin_map({"e": spec}, EmbedderPlugin)["e"]  # type: ignore[type-abstract]  # it asks for subclasses
    assert isinstance(embedder, QueueEmbedder)
    assert embedder.get_dimension() == 8
    assert await embedder.embed(a_chunk(1), fs=None) == derived_vector("chunk 1")
    assert queue.jobs[0].owner == Owner(org="o", guild="g", agent="a")
    assert QueueEmbedder.model_validate(embedder.model_dump()).properties == spec["properties"]


def test_a_property_that_is_wrong_is_named() -> None:
    with pytest.raises(ValidationError, match="dimensions: got 'many'; give a whole number"):
        an_embedder(properties={"dimensions": "many"})
    with pytest.raises(ValidationError, match="owner: give"):
        an_embedder(owner={"org": "o"})
