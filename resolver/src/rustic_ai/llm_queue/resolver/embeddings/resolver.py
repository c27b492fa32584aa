from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rustic_ai.core.guild.agent_ext.depends.dependency_resolver import DependencyResolver
from rustic_ai.core.guild.agent_ext.depends.embeddings import Embeddings

from rustic_ai.llm_queue.tasks.owner import Owner

from ..call.guild_messages import follow_messages
from .embeddings import QueueEmbeddings
from .properties import EmbeddingProperties


class QueueEmbeddingsResolver(DependencyResolver[Embeddings]):
    """Gives agents, and their vector stores, `Embeddings` whose calls go through the queue.

    Takes the properties of upstream's OpenAIEmbeddingsResolver and VertexAIEmbeddingsResolver, and the
    queue's own: see `EmbeddingProperties`. Making one touches no network.
    """

    def __init__(
        self,
        model_name: str | None = None,
        deployment: str | None = None,
        model_conf: Mapping[str, Any] | None = None,
        conf: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Raises `ConfigurationError` naming each property that is wrong, and what to give instead."""
        super().__init__()  # type: ignore[no-untyped-call]  # core has no types there
        named = {"model_name": model_name, "deployment": deployment}
        given = {name: value for name, value in named.items() if value is not None}
        self._properties = EmbeddingProperties.load(
            {**given, "model_conf": model_conf, "conf": conf, **properties}
        )
        self._settings = self._properties.settings()
        follow_messages()

    @property
    def properties(self) -> EmbeddingProperties:
        """What was given, validated."""
        return self._properties

    def resolve(self, org_id: str, guild_id: str, agent_id: str) -> QueueEmbeddings:
        """The embeddings of one agent: its jobs belong to the agent."""
        owner = Owner(org=org_id, guild=guild_id, agent=agent_id)
        return QueueEmbeddings(self._properties, self._settings, owner)
