"""A guild that is sent one message with a trace, here or as a process of its own."""

import asyncio
import sys
import uuid
from typing import Any

from pydantic import BaseModel
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder
from rustic_ai.core.guild.dsl import DependencySpec
from rustic_ai.core.messaging.core.message import Message
from rustic_ai.core.utils.basic_class_utils import get_qualified_class_name
from rustic_ai.core.utils.priority import Priority

from support.callers.documented_agents import AsyncQueryRequest, LLMAgent
from support.processes.wait import wait_until

RESOLVER = "rustic_ai.llm_queue.resolver.QueueLLMResolver"


def ask_guild(traceparent: str, payload: BaseModel, model: str = "openai/gpt-4o-mini") -> dict[str, Any]:
    """Send the message to a guild of one agent, and wait for its answer."""
    builder = GuildBuilder(f"guild_{uuid.uuid4().hex}", "Traced", "Answers")
    spec = DependencySpec(class_name=RESOLVER, properties={"model": model})
    builder.add_dependency_resolver("llm", spec)
    agent: AgentBuilder[Any, Any] = AgentBuilder(LLMAgent).set_id("llm-agent").set_name("LLM")
    builder.add_agent_spec(agent.set_description("Answers").build_spec())
    guild = builder.launch("acme")
    try:
        probe = guild._add_local_agent(
            AgentBuilder(ProbeAgent).set_id("probe").set_name("Probe").set_description("Probes").build_spec()
        )
        assert isinstance(probe, ProbeAgent)
        message = Message(
            id_obj=probe._generate_id(Priority.NORMAL),
            topics=guild.DEFAULT_TOPIC,
            sender=probe.get_agent_tag(),
            payload=payload.model_dump(),
            format=get_qualified_class_name(type(payload)),
            traceparent=traceparent,
        )
        probe._client.publish(message)
        wait_until(lambda: probe.received_messages, 40, "the agent's answer")
        answer: dict[str, Any] = probe.received_messages[0].payload
        return answer
    finally:
        guild.shutdown()


def main() -> None:
    """With OpenTelemetry's SDK in this process, as an application of agents sets it up."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    traceparent, query = sys.argv[1:]
    print(ask_guild(traceparent, AsyncQueryRequest(query=query)))


async def ask_guild_in_a_loop(traceparent: str, payload: BaseModel) -> dict[str, Any]:
    """As a test or a notebook does it: where a loop runs, Rustic gives the processor another thread."""
    await asyncio.sleep(0)
    return ask_guild(traceparent, payload)


if __name__ == "__main__":
    main()
