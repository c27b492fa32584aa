"""An OpenTelemetry collector on loopback, which keeps what it is sent."""

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.processes.wait import wait_until
from support.servers.http_server import HttpServer


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it came over the wire."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    failed: bool
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    raw: str


class Collector:
    """Takes OTLP over HTTP. A context manager."""

    def __init__(self) -> None:
        self._spans: list[CollectedSpan] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HttpServer(Handler)

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return self._server.url

    def trace(self, trace_id: str, count: int = 0) -> list[CollectedSpan]:
        """The spans of a trace as they began, the enclosing one first, once there are so many."""

        def found() -> list[CollectedSpan]:
            return [span for span in list(self._spans) if span.trace_id == trace_id]

        wait_until(lambda: len(found()) >= count, 15, f"{count} spans")
        return sorted(found(), key=lambda span: (span.start_ns, -span.end_ns))

    def run_of(self, agent: str) -> CollectedSpan:
        """The span of the one job that an agent has had run."""

        def found() -> list[CollectedSpan]:
            return [span for span in list(self._spans) if span.attributes.get("gen_ai.agent.id") == agent]

        (span,) = wait_until(found, 15, f"the span of {agent}'s job")
        return span

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            service = {one.key: one.value.string_value for one in group.resource.attributes}["service.name"]
            for scope in group.scope_spans:
                self._spans += [_collected(span, service) for span in scope.spans]


def _collected(span: Any, service: str) -> CollectedSpan:
    return CollectedSpan(
        name=span.name,
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        failed=span.status.code == 2,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={one.key: _value(one.value) for one in span.attributes},
        raw=str(span),
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
