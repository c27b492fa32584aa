"""Embeddings through the queue, beside the SDKs that an agent would call itself.

    python -m bench.embeddings [--rounds 5] [--dimensions 1536] [--texts 500]

- `shared`: 1,000 texts, one a call, by 50 agents at once, and how many provider calls they were;
- `bulk`: one caller's texts, in texts a second, beside LiteLLM's and OpenAI's SDK (2,048 a call; LiteLLM's
  takes 4 ms of CPU a text, so that many texts take minutes);
- `chunks`: a knowledge base's pipeline of 1,000 chunks, by core's executor, which embeds one chunk after the
  other, and by ours; both with our embedder;
- `lone`: the time of a single text's vector, beside LiteLLM's SDK.

One worker, a Redis of its own, and a provider that costs next to nothing. The contenders take turns, so
that a neighbour's load falls on all of them; the figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from rustic_ai.core.knowledgebase.chunks import ChunkBase, TextChunk
from rustic_ai.core.knowledgebase.model import Knol
from rustic_ai.core.knowledgebase.pipeline_executor import (
    PipelineExecutor,
    ResolvedPipeline,
    SimplePipelineExecutor,
)
from rustic_ai.core.knowledgebase.plugins import ChunkerPlugin

from bench import ROOT
from bench.lab import Stub
from rustic_ai.llm_queue.resolver import (
    ConcurrentPipelineExecutor,
    QueueEmbedder,
    QueueEmbeddings,
    QueueEmbeddingsResolver,
)
from rustic_ai.llm_queue.resolver.client.engine import Engine
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

MODEL = "text-embedding-3-small"
AGENTS, TEXTS_OF_AN_AGENT, LONE, CHUNKS = 50, 20, 100, 1_000
_AT_ONCE = 2_048
_KEY = "sk-bench"

Embed = Callable[[list[str]], list[list[float]]]


def agents(redis_url: str, count: int, **properties: Any) -> list[QueueEmbeddings]:
    """The embeddings of so many agents of one guild."""
    resolver = QueueEmbeddingsResolver(model_name=MODEL, redis_url=redis_url, **properties)
    return [resolver.resolve("org", "guild", f"agent-{at}") for at in range(count)]


def shared(stub: Stub, callers: Sequence[QueueEmbeddings], *, at_once: bool) -> tuple[int, float]:
    """How many provider calls 1,000 calls of one text were, and the seconds they took."""
    before, began = stub.stats()["served"], time.monotonic()
    texts = range(TEXTS_OF_AN_AGENT)
    if at_once:
        asked = [(agent, f"text {at}") for at in texts for agent in callers]
        with ThreadPoolExecutor(len(asked)) as pool:
            list(pool.map(lambda one: one[0].embed_query(one[1]), asked))
    else:
        with ThreadPoolExecutor(len(callers)) as pool:
            list(pool.map(lambda agent: [agent.embed_query(f"text {at}") for at in texts], callers))
    return stub.stats()["served"] - before, time.monotonic() - began


def bulk_contenders(stub: Stub, queue: QueueEmbeddings, dimensions: int) -> dict[str, Embed]:
    """What embeds 10,000 texts."""
    import litellm
    import openai

    client = openai.OpenAI(api_key=_KEY, base_url=f"{stub.url}/v1")

    def of_litellm(texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _AT_ONCE):
            answer = litellm.embedding(
                f"openai/{MODEL}",
                texts[start : start + _AT_ONCE],
                dimensions=dimensions,
                api_key=_KEY,
                api_base=f"{stub.url}/v1",
            )
            vectors += [item["embedding"] for item in answer.data]
        return vectors

    def of_openai(texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _AT_ONCE):
            answer = client.embeddings.create(
                model=MODEL, input=texts[start : start + _AT_ONCE], dimensions=dimensions
            )
            vectors += [item.embedding for item in answer.data]
        return vectors

    return {"queue": queue.embed, "LiteLLM's SDK": of_litellm, "OpenAI's SDK": of_openai}


def rates(contenders: dict[str, Embed], dimensions: int, count: int, rounds: int) -> dict[str, float]:
    """Texts a second of each; the first round, which loads what it needs, is not counted."""
    texts = [f"text {at} of a document of some length, as chunks have" for at in range(count)]
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, embed in contenders.items():
            began = time.monotonic()
            vectors = embed(texts)
            taken[name].append(time.monotonic() - began)
            assert len(vectors) == count
            assert {len(vector) for vector in vectors} == {dimensions}
    return {name: count / statistics.median(seconds[1:]) for name, seconds in taken.items()}


class _Lines(ChunkerPlugin):
    async def split(self, knol: Knol, *, fs: Any, library_path: str = "library") -> AsyncIterator[ChunkBase]:
        for index in range(CHUNKS):
            yield TextChunk(
                id=f"c{index}",
                knol_id=knol.id,
                producer_id="lines",
                index=index,
                content_bytes=f"chunk {index} of {knol.name}".encode(),
                mimetype="text/plain",
            )


def chunks(redis_url: str, rounds: int) -> dict[str, float]:
    """Seconds that a knowledge base's pipeline takes for its chunks, by executor."""
    executors: dict[str, PipelineExecutor] = {
        "core's": SimplePipelineExecutor(),
        "ours": ConcurrentPipelineExecutor(),
    }
    pipeline = ResolvedPipeline(
        id="p",
        chunker_id="c",
        policy_version="1",
        vector_space_id="v",
        chunker=_Lines(id="c"),
        embedder=QueueEmbedder(id="e", properties={"model": MODEL, "redis_url": redis_url}),
    )

    async def run(executor: PipelineExecutor, name: str) -> float:
        knol = Knol(id=name, name=name, mimetype="text/plain")
        began = time.monotonic()
        rows = executor.rows_for_knol(knol=knol, fs=None, library_path="library", pipelines=[pipeline])
        assert len([row async for row in rows]) == CHUNKS
        return time.monotonic() - began

    taken: dict[str, list[float]] = {name: [] for name in executors}
    for at in range(rounds):
        for name, executor in executors.items():
            taken[name].append(asyncio.run(run(executor, f"{name} {at}")))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def lone(stub: Stub, queue: QueueEmbeddings) -> dict[str, float]:
    """Milliseconds of one text's vector."""
    import litellm

    def of_litellm(text: str) -> object:
        return litellm.embedding(f"openai/{MODEL}", [text], api_key=_KEY, api_base=f"{stub.url}/v1")

    contenders: dict[str, Callable[[str], object]] = {"queue": queue.embed_query, "LiteLLM's SDK": of_litellm}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for at in range(LONE):
        for name, embed in contenders.items():
            began = time.monotonic()
            embed(f"text {at}")
            taken[name].append(time.monotonic() - began)
    return {name: statistics.median(seconds) * 1e3 for name, seconds in taken.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.embeddings", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dimensions", type=int, default=1_536)
    parser.add_argument("--texts", type=int, default=500, help="of the bulk")
    parser.add_argument("--only", default="shared,bulk,chunks,lone", help="which, with commas")
    options = parser.parse_args(arguments)
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with ExitStack() as stack:
        stub = Stub()
        stub.start()
        stack.callback(stub.process.kill)
        valkey = stack.enter_context(ValkeyServer())
        env = {
            "LLM_QUEUE_REDIS_URL": valkey.url,
            "OPENAI_API_KEY": _KEY,
            "OPENAI_API_BASE": f"{stub.url}/v1",
            "OPENAI_BASE_URL": f"{stub.url}/v1",
        }
        stack.enter_context(WorkerProcess(env, cwd=ROOT))
        stack.callback(Engine.close_shared)
        callers = agents(valkey.url, AGENTS)
        callers[0].embed(["warm up"])
        chosen = options.only.split(",")
        if "shared" in chosen:
            for at_once in (False, True):
                runs = [shared(stub, callers, at_once=at_once) for _ in range(options.rounds)]
                calls, seconds = (statistics.median(column) for column in zip(*runs, strict=True))
                print(
                    f"shared    {AGENTS * TEXTS_OF_AN_AGENT:,} calls of one text by {AGENTS} agents, "
                    f"{'all at once' if at_once else 'one after another each'}: {calls:.0f} provider calls "
                    f"(most {max(count for count, _ in runs)}), {seconds:.2f} s"
                )
        if "bulk" in chosen:
            (queue,) = agents(valkey.url, 1, dimensions=options.dimensions)
            contenders = bulk_contenders(stub, queue, options.dimensions)
            found = rates(contenders, options.dimensions, options.texts, options.rounds)
            for name, rate in found.items():
                print(
                    f"bulk      {options.texts:,} texts of {options.dimensions} numbers: {name:14} "
                    f"{rate:8,.0f} texts/s   queue x{found['queue'] / rate:.2f}"
                )
        if "chunks" in chosen:
            by_executor = chunks(valkey.url, options.rounds)
            for name, seconds in by_executor.items():
                print(
                    f"chunks    {CHUNKS:,} chunks of a knowledge base: {name:7} executor {seconds:6.2f} s   "
                    f"ours x{seconds / by_executor['ours']:.1f}"
                )
        if "lone" in chosen:
            for name, ms in lone(stub, callers[0]).items():
                print(f"lone      one text: {name:14} {ms:6.1f} ms")


if __name__ == "__main__":
    main()
