"""One trace from a guild's message through the queue to the provider, over processes."""

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes

from rustic_ai.llm_queue.worker.telemetry import job_spans, tracing
from support.callers.documented_agents import AsyncQueryRequest, QueryRequest
from support.callers.llm import MakeLLM, ask
from support.callers.traced_guild import ask_guild, ask_guild_in_a_loop
from support.processes.process import ChildProcess
from support.providers.provider import ProviderStub, Step
from support.servers.collector import Collector
from support.servers.valkey import ValkeyServer

MINI, HAIKU = "openai/gpt-4o-mini", "anthropic/claude-3-5-haiku-latest"
PRODUCER, CONSUMER, CLIENT = 4, 5, 3
#: The names of attributes in OpenTelemetry's semantic conventions that our spans may use.
CONVENTIONS = {
    name
    for module in (gen_ai_attributes, messaging_attributes, error_attributes, http_attributes)
    for name in vars(module).values()
    if isinstance(name, str) and "." in name
}


@pytest.fixture
def trace_id() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def message_id() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def traceparent(trace_id: str, message_id: str) -> str:
    return f"00-{trace_id}-{message_id}-01"


@pytest.mark.usefixtures("worker")
def test_one_trace_from_the_message_to_the_provider(
    valkey: ValkeyServer,
    provider: ProviderStub,
    collector: Collector,
    trace_id: str,
    message_id: str,
    traceparent: str,
    tmp_path: Path,
) -> None:
    provider.plan("q", Step(text="canary answer", prompt_tokens=11, completion_tokens=3, delay_s=0.1))
    env = {
        **os.environ,
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "agents",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-m", "support.callers.traced_guild", traceparent, "canary prompt #q"]
    agents = ChildProcess(command, log_path=tmp_path / "guild.log", env=env)
    agents.start()
    try:
        assert agents.wait(60) == 0, agents.log_tail()
    finally:
        agents.kill()
    sent, run, call = (
        next(span for span in collector.trace(trace_id, 4) if span.name == name)
        for name in ("send llm", "process llm", f"chat {MINI}")
    )
    processing = next(span for span in collector.trace(trace_id) if span.span_id == sent.parent_id)
    assert processing.name == "rustic_ai:process_message", "the processor that asked, and not beside it"
    assert processing.parent_id == message_id
    assert run.parent_id == sent.span_id
    assert call.parent_id == run.span_id
    assert (sent.kind, run.kind, call.kind) == (PRODUCER, CONSUMER, CLIENT)
    assert (sent.service, run.service) == ("agents", "llm-queue-worker")
    assert run.start_ns <= call.start_ns < call.end_ns <= run.end_ns
    assert call.end_ns - call.start_ns >= 0.1e9
    assert run.attributes["messaging.message.id"] == sent.attributes["messaging.message.id"]
    assert run.attributes["gen_ai.agent.id"] == "llm-agent"
    assert (
        call.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": MINI,
            "gen_ai.request.temperature": 0.7,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 3,
        }.items()
    )
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    for span in (sent, run, call):
        assert {name for name in span.attributes if not name.startswith("llm_queue.")} <= CONVENTIONS
    assert "canary" not in "".join(span.raw for span in (sent, run, call))


def test_providers_have_the_conventions_names() -> None:
    known = {one.value for one in gen_ai_attributes.GenAiProviderNameValues}
    assert set(job_spans._PROVIDERS.values()) <= known
    told = set(job_spans._PARAMETERS.values())
    assert told <= CONVENTIONS


@pytest.mark.usefixtures("worker")
def test_a_stream_says_when_its_first_words_came(
    llm: MakeLLM, provider: ProviderStub, collector: Collector
) -> None:
    thinking = Step(first_token_delay_s=0.3, reasoning_tokens=7, completion_tokens=9, prompt_tokens=5)
    provider.plan("q", Step(status=500), thinking)
    agent = f"agent {secrets.token_hex(4)}"
    with llm("acme", "support", agent).stream(ask("#q")) as stream:
        assert "".join(chunk.text or "" for chunk in stream)
    _, failed, call = collector.trace(collector.run_of(agent).trace_id, 3)
    assert call.attributes["gen_ai.request.stream"] is True
    assert call.attributes["gen_ai.usage.reasoning.output_tokens"] == 7
    waited_s = call.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0.3 <= waited_s <= (call.end_ns - call.start_ns) / 1e9
    assert "gen_ai.response.time_to_first_chunk" not in failed.attributes
    assert call.attributes.keys() - CONVENTIONS == {
        "llm_queue.attempt",
        "llm_queue.attempt.status",
        "llm_queue.cost_usd",
    }


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "payload", [QueryRequest(query="#q"), AsyncQueryRequest(query="#q")], ids=["sync", "async"]
)
@pytest.mark.parametrize("in_a_loop", [False, True], ids=["", "in a loop"])
def test_the_messages_trace_goes_on_without_an_sdk_at_the_agents(
    redis_url: str,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    provider: ProviderStub,
    trace_id: str,
    message_id: str,
    traceparent: str,
    payload: QueryRequest | AsyncQueryRequest,
    in_a_loop: bool,
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    if in_a_loop:
        asyncio.run(ask_guild_in_a_loop(traceparent, payload))
    else:
        ask_guild(traceparent, payload)
    (run,) = [span for span in collector.trace(trace_id, 2) if span.name == "process llm"]
    assert run.parent_id == message_id


@pytest.mark.usefixtures("worker")
def test_each_attempt_is_a_span_with_its_error(
    llm: MakeLLM, provider: ProviderStub, collector: Collector
) -> None:
    provider.plan("q", Step(status=500), Step(status=401, code="invalid_api_key"), provider="openai")
    agent = f"agent {secrets.token_hex(4)}"
    llm("acme", "support", agent, fallback_models=[HAIKU], max_retries=1).completion(ask("#q"))
    run = collector.run_of(agent)
    assert run.parent_id == "", "no trace of the caller's, so it is one of its own"
    assert not run.failed, "the job was answered"
    assert run.attributes["llm_queue.outcome"] == "answered"
    _, first, second, third = collector.trace(run.trace_id, 4)
    assert [one.name for one in (first, second, third)] == [f"chat {MINI}", f"chat {MINI}", f"chat {HAIKU}"]
    assert [one.attributes.get("error.type") for one in (first, second, third)] == [
        "internal_server",
        "authentication",
        None,
    ]
    assert [one.failed for one in (first, second, third)] == [True, True, False]
    assert first.attributes["http.response.status_code"] == 500
    assert third.attributes["gen_ai.provider.name"] == "anthropic"
    assert first.end_ns <= second.start_ns, "the pause between them is seen"


@pytest.mark.usefixtures("worker")
def test_a_trace_that_is_not_sampled_stays_so(
    redis_url: str,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    trace_id: str,
    message_id: str,
    llm: MakeLLM,
    provider: ProviderStub,
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    ask_guild(f"00-{trace_id}-{message_id}-00", QueryRequest(query="unsampled"))
    agent = f"agent {secrets.token_hex(4)}"
    llm("acme", "support", agent).completion(ask("after it"))
    collector.run_of(agent)
    assert collector.trace(trace_id) == []


OTLP = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environment", "exporters"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x"}, []),
        (OTLP, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["console"]),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, ["otlp", "console"]),
        ({**OTLP, "OTEL_TRACES_EXPORTER": "none"}, []),
        ({**OTLP, "OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_what_turns_traces_on(environment: Mapping[str, str], exporters: list[str]) -> None:
    assert tracing._exporters(environment) == exporters
    if not exporters:
        assert tracing.Tracing.of_environment("w", environment) is None


def test_what_is_not_there_is_said_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert tracing.Tracing.of_environment("w", {**OTLP, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) is None
    assert "otlp over grpc is not there" in caplog.text
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert tracing.Tracing.of_environment("w", OTLP) is None
    assert "rusticai-llm-queue[otel]" in caplog.text
