"""A guild whose LLM is a queue, asked one question: `python examples/guild.py "Why do birds sing?"`.

The guild is built here; with `--yaml` it is the same one from `qa_guild.yaml`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.guild.dsl import DependencySpec
from rustic_ai.core.messaging.core.message import Message

from agents import Geographer, Question, Visitor
from rustic_ai.llm_queue.resolver import QueueChatCompletionResponse

_ANSWER_WITHIN_S = 60.0


def build(model: str) -> GuildBuilder:
    """The guild in Python."""
    llm = DependencySpec(
        class_name="rustic_ai.llm_queue.resolver.QueueLLMResolver",
        properties={
            "model": model,
            "temperature": 0.2,
            "max_tokens": 200,
            "fallback_models": ["anthropic/claude-3-5-haiku-latest"],
        },
    )
    agent: AgentBuilder[Any, Any] = AgentBuilder(Geographer)
    agent.set_id("geographer").set_name("Geographer").set_description("Answers questions")
    builder = GuildBuilder("questions", "Questions", "An agent that answers what it is asked")
    builder.add_dependency_resolver("llm", llm)
    builder.add_agent_spec(agent.build_spec())
    return builder


def ask(builder: GuildBuilder, question: str) -> Message:
    """Launch the guild, ask it, and end it."""
    guild = builder.launch("examples")
    try:
        spec: AgentBuilder[Any, Any] = AgentBuilder(Visitor)
        spec.set_id("visitor").set_name("Visitor").set_description("Asks")
        spec.add_additional_topic("error_topic")
        visitor = guild._add_local_agent(spec.build_spec())
        assert isinstance(visitor, Visitor)
        visitor.publish(guild.DEFAULT_TOPIC, Question(text=question))
        return visitor.heard.get(timeout=_ANSWER_WITHIN_S)
    finally:
        guild.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question")
    parser.add_argument("--model", default="openai/gpt-4o-mini")
    parser.add_argument("--yaml", action="store_true", help="take the guild from qa_guild.yaml")
    options = parser.parse_args()
    spec_file = Path(__file__).with_name("qa_guild.yaml")
    builder = GuildBuilder.from_yaml_file(str(spec_file)) if options.yaml else build(options.model)
    message = ask(builder, options.question)
    if message.is_error_message:
        # Core's own name for it, and the one of agents that report their LLM's errors themselves.
        print(message.payload.get("error_message") or message.payload.get("message"), file=sys.stderr)
        return 1
    response = QueueChatCompletionResponse.model_validate(message.payload)
    print(response.choices[0].message.content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
