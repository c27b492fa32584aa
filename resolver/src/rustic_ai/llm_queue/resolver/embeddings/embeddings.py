from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rustic_ai.core.guild.agent_ext.depends.embeddings import Embeddings

from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..engines import engine_for
from .properties import EmbeddingProperties
from .run import EmbeddingRun, Vectors


class QueueEmbeddings(Embeddings):
    """Embeddings that are jobs on a queue, made by LiteLLM workers.

    Also what LangChain calls embeddings, without LangChain. Safe to share between threads and event loops,
    and after a fork. What it raises is a `QueueError`, as of a `QueueLLM`.
    """

    def __init__(self, properties: EmbeddingProperties, settings: QueueSettings, owner: Owner) -> None:
        self._properties, self._settings, self._owner = properties, settings, owner

    def embed(self, text: list[str]) -> Vectors:
        """The vector of each text, in their order. Waits at most for the properties' timeout.

        As many texts as there are: they are split by the provider's limits. An empty list is answered
        without a job.

        Raises `InvalidRequest` naming the text before anything is queued; `JobTimeout`,
        `QueueUnavailable`, or the provider's error as a `QueueError`.
        """
        if not (run := self._run(text)):
            return []
        engine = engine_for(self._settings)
        return engine.call(lambda: run.vectors(engine))

    async def aembed(self, text: list[str]) -> Vectors:
        """`embed`, from an event loop. Cancelling the wait cancels the jobs."""
        if not (run := self._run(text)):
            return []
        engine = engine_for(self._settings)
        return await engine.acall(lambda: run.vectors(engine))

    def embed_documents(self, texts: list[str]) -> Vectors:
        """`embed`, by LangChain's name."""
        return self.embed(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed([text])[0]

    async def aembed_documents(self, texts: list[str]) -> Vectors:
        """`aembed`, by LangChain's name."""
        return await self.aembed(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`, from an event loop."""
        return (await self.aembed([text]))[0]

    @property
    def langchain_embeddings(self) -> QueueEmbeddings:
        """Itself: upstream's agents ask for this where they hand embeddings to LangChain."""
        return self

    @property
    def model(self) -> str:
        """The properties' model."""
        return self._properties.model

    def get_config(self) -> dict[str, Any]:
        """The properties, without secrets."""
        return self._properties.public()

    def __repr__(self) -> str:
        return f"QueueEmbeddings(model={self.model!r}, owner={str(self._owner)!r})"

    def _run(self, texts: Sequence[str]) -> EmbeddingRun | None:
        if isinstance(texts, Sequence) and not texts and not isinstance(texts, str):
            return None
        return EmbeddingRun(self._properties, self._settings, self._owner, texts)
