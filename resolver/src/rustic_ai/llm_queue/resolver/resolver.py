from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rustic_ai.core.guild.agent_ext.depends.dependency_resolver import DependencyResolver
from rustic_ai.core.guild.agent_ext.depends.llm import LLM

from rustic_ai.llm_queue.tasks.owner import Owner

from .call.answer_schema import require_validator
from .call.guild_messages import follow_messages
from .llm import QueueLLM
from .properties import Properties
from .toolset import toolset_tools


class QueueLLMResolver(DependencyResolver[LLM]):
    """Gives agents an `LLM` whose calls go through the queue.

    Takes the properties of the LiteLLMResolver, flat or under `conf`, and the queue's own: see
    `Properties`. Making one touches no network.
    """

    def __init__(
        self, model: str | None = None, conf: Mapping[str, Any] | None = None, **properties: Any
    ) -> None:
        """Raises `ConfigurationError` naming each property that is wrong, and what to give instead."""
        super().__init__()  # type: ignore[no-untyped-call]  # core has no types there
        named = {"model": model} if model is not None else {}
        self._properties = Properties.load({**named, "conf": conf, **properties})
        self._settings = self._properties.settings()
        # Fail here, not at the first call, when a toolset cannot be imported.
        toolset_tools(self._properties.toolset)
        if self._properties.enable_json_schema_validation:
            require_validator()
        follow_messages()

    @property
    def properties(self) -> Properties:
        """What was given, validated."""
        return self._properties

    def resolve(self, org_id: str, guild_id: str, agent_id: str) -> QueueLLM:
        """The LLM of one agent: its jobs belong to the agent."""
        owner = Owner(org=org_id, guild=guild_id, agent=agent_id)
        return QueueLLM(self._properties, self._settings, owner)
