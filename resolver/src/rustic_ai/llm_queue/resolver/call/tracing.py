"""The trace that a call belongs to. The application's own OpenTelemetry decides whether there is one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rustic_ai.llm_queue.tasks.owner import Owner

from .guild_messages import context_of

_SCOPE = "rustic_ai.llm_queue"
#: The attribute in which Rustic keeps a processor's span in its context.
_PROCESS_SPAN = "otel_tracing_span"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True)
class SubmitSpan:
    """The span of a submit, and what the worker's spans hang on: W3C trace context, or nothing."""

    span: Span
    traceparent: str

    @classmethod
    def begin(cls, owner: Owner, *, queue: str, job_id: str, model: str) -> SubmitSpan:
        """Begin it where the caller is: in its current span, its processor's, or its message's trace.

        Without an OpenTelemetry SDK in this process there is no span, and the message's trace context
        goes on to the worker as it is.
        """
        attributes = {
            "messaging.system": "celery",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": queue,
            "messaging.message.id": job_id,
            "gen_ai.request.model": model,
            "gen_ai.agent.id": owner.agent,
        }
        tracer, kind = trace.get_tracer(_SCOPE), trace.SpanKind.PRODUCER
        span = tracer.start_span(f"send {queue}", _caller(owner), kind, attributes)
        return cls(span, _traceparent(span))

    def end(self, error: BaseException | None = None) -> None:
        """The job is queued, or is not. Ending it twice is safe."""
        if not self.span.is_recording():
            return
        if error is not None:
            self.span.set_attribute("error.type", type(error).__name__)
            self.span.set_status(StatusCode.ERROR)
        self.span.end()


def _caller(owner: Owner) -> Context | None:
    if trace.get_current_span().get_span_context().is_valid:
        return None  # the current one it is
    context = context_of(owner)
    if context is None:
        return None
    span: Span | None = getattr(context, _PROCESS_SPAN, None)
    if span is not None and span.get_span_context().is_valid:
        return trace.set_span_in_context(span)
    traceparent = context.message.traceparent
    # Rustic writes words there, too.
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return None
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _traceparent(span: Span) -> str:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")
