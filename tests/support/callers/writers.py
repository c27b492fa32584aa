"""The guild of ``examples/streaming_guild.yaml``, and somebody who talks to it."""

import uuid
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionError,
    ChatCompletionRequest,
    ChatCompletionResponse,
    UserMessage,
)
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.utils.basic_class_utils import get_qualified_class_name

from support.processes.wait import wait_until

_GUILD = Path(__file__).parents[3] / "examples" / "streaming_guild.yaml"
_TOPIC = "writing"

UPDATE = "updateTextFormat"
RESPONSE = get_qualified_class_name(ChatCompletionResponse)
ERROR = get_qualified_class_name(ChatCompletionError)


class Talk:
    """What is said to the guild's writer, and heard of it."""

    def __enter__(self) -> Self:
        spec = GuildBuilder.from_yaml_file(str(_GUILD)).build_spec()
        spec.id = f"guild-{uuid.uuid4()}"
        self._guild = GuildBuilder.from_spec(spec).launch("org")
        probe = self._guild._add_local_agent(
            AgentBuilder(ProbeAgent).set_id("probe").set_name("Probe").set_description("Probes")
            .add_additional_topic(_TOPIC).add_additional_topic("error_topic").build_spec()
        )  # fmt: skip
        assert isinstance(probe, ProbeAgent)
        self._probe = probe
        return self

    def __exit__(self, *_: object) -> None:
        # Core's shutdown forgets the agents of a guild to which another was added.
        self._guild.execution_engine.stop_agent(self._guild.id, "writer")
        self._guild.shutdown()

    def say(self, payload: BaseModel) -> None:
        """Publish a message to the writer."""
        self._probe.publish(_TOPIC, payload)

    def ask(self, text: str) -> None:
        """Ask for a completion."""
        self.say(ChatCompletionRequest(messages=[UserMessage(content=text)]))

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of the messages of a format."""
        return [message.payload for message in list(self._probe.received_messages) if message.format == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many messages of a format have come."""
        wait_until(lambda: len(self.heard(kind)) >= count, 20, f"{count} of {kind}")
        return self.heard(kind)

    def shown(self) -> dict[str, str]:
        """What Rustic's UI makes of the updates: a text for each `updateId`."""
        texts: dict[str, str] = {}
        for update in self.heard(UPDATE):
            before = texts.get(update["updateId"], "")
            replaces = update.get("updateType") == "replace"
            texts[update["updateId"]] = update["text"] if replaces else before + update["text"]
        return texts
