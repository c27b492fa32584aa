"""A guild whose vector store is Chroma, and whose embeddings are a queue:
`python examples/library.py "Where do cats sleep?" "The cat sleeps on the sofa." "Taxes are due in April."`

It needs `rusticai-chroma`, beside this package; the guild is `library.yaml`. Chroma keeps what it is given in
a folder `chroma` where this is run, for the next run, too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.messaging.core.message import Message

from agents import Visitor
from librarian import Passage, Passages

_ANSWER_WITHIN_S = 60.0


def ask(passages: Passages) -> Message:
    """Launch the guild, have it look for a passage, and end it."""
    builder = GuildBuilder.from_yaml_file(str(Path(__file__).with_name("library.yaml")))
    guild = builder.launch("examples")
    try:
        spec: AgentBuilder[Any, Any] = AgentBuilder(Visitor)
        spec.set_id("visitor").set_name("Visitor").set_description("Asks")
        spec.add_additional_topic("error_topic")
        visitor = guild._add_local_agent(spec.build_spec())
        assert isinstance(visitor, Visitor)
        visitor.publish(guild.DEFAULT_TOPIC, passages)
        return visitor.heard.get(timeout=_ANSWER_WITHIN_S)
    finally:
        guild.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted")
    parser.add_argument("passages", nargs="+")
    options = parser.parse_args()
    message = ask(Passages(texts=options.passages, wanted=options.wanted))
    if message.is_error_message:
        print(message.payload.get("error_message") or message.payload.get("message"), file=sys.stderr)
        return 1
    print(Passage.model_validate(message.payload).text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
