"""Traces, switched on by OpenTelemetry's own variables; off otherwise."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .job_spans import JobSpans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

_SERVICE = "llm-queue-worker"
_SCOPE = "rustic_ai.llm_queue"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """Sends a worker's spans out: a `Service`, which sends the last of them when it is cancelled."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self.observer = JobSpans(provider.get_tracer(_SCOPE))

    @classmethod
    def of_environment(cls, worker: str, environment: Mapping[str, str] = os.environ) -> Tracing | None:
        """None unless the variables ask for traces, and what they ask for is installed."""
        names = _exporters(environment)
        if not names:
            return None
        try:
            return cls(_provider(worker, names, environment))
        except (ImportError, ValueError) as error:
            logger.error("No traces are sent: %s", error)
            return None

    async def run(self) -> None:
        """Wait until cancelled, then send what is left."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(self._provider.shutdown)


def _exporters(environment: Mapping[str, str]) -> list[str]:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    asked = environment.get("OTEL_TRACES_EXPORTER", "")
    names = [name.strip() for name in asked.split(",") if name.strip() not in ("", "none")]
    if asked or names:
        return names
    # OpenTelemetry's own default would send to localhost; a worker sends nothing unasked.
    return ["otlp"] if any(environment.get(name) for name in _ENDPOINTS) else []


def _provider(worker: str, names: list[str], environment: Mapping[str, str]) -> TracerProvider:
    """Raises `ImportError` or `ValueError` saying what is missing."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ImportError("they need pip install 'rusticai-llm-queue[otel]'") from None
    ours = {"service.instance.id": worker}
    if "service.name" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        ours["service.name"] = environment.get("OTEL_SERVICE_NAME") or _SERVICE
    # Not OpenTelemetry's global one: it is the worker's spans that are asked for, and no library's.
    provider = TracerProvider(resource=Resource.create(ours))
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name, environment)))
    return provider


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    if name == "console":
        return ConsoleSpanExporter()
    protocol = environment.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    )
    if name != "otlp" or protocol != "http/protobuf":
        raise ValueError(f"{name} over {protocol} is not there; otlp over http/protobuf and console are")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
