"""A collector of traces that keeps what it is sent (OTLP over HTTP)."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What a test looks at. Ids are hexadecimal, times in nanoseconds since 1970."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, str]


@dataclass
class Collector:
    """Where it listens, and the spans so far."""

    url: str
    spans: list[Span] = field(default_factory=list[Span])

    def of(self, trace: str) -> dict[str, Span]:
        """The spans of a trace by service and name."""
        return {f"{span.service}: {span.name}": span for span in self.spans if span.trace == trace}


@contextmanager
def collector() -> Generator[Collector]:
    """A collector on a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found.spans += _read(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def _read(body: bytes) -> list[Span]:
    spans: list[Span] = []
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {one.key: one.value.string_value for one in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                attributes = {
                    one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes
                }
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                spans.append(
                    Span(
                        about["service.name"],
                        span.name,
                        *ids,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        attributes,
                    )
                )
    return spans
