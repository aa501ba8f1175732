"""Traces: what one request or job did, and for how long, through every process that had a part in it (OpenTelemetry).

Off unless the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); the standard's other variables, for sampling,
headers and the like, hold too. Requests get their spans from FastAPI. A job carries the W3C context of the request that made
it, so that its wait, its attempts and its child belong to the same trace. Spans hold ids, kinds and outcomes, never texts.

OpenTelemetry is imported where it is used: a child that is not traced starts without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from opentelemetry.context import Context

COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Environment variables that switch tracing on."""

HEADER = "traceparent"
LAST_SPANS_MS = 1500
"""How long a process that ends waits for its last spans to arrive; a collector that is away must not hold it up."""

Note = Callable[[str, str], None]
"""Adds an attribute to the span that is open."""

_provider: Any = None


def begin(service: str) -> None:
    """Send this process's spans to the collector. Does nothing without one, or when it was called before.

    Call it in the process that serves, not in one that forks others: the sender is a thread.

    Raises:
        SystemExit: a collector is named and the libraries are missing.
    """
    global _provider
    if _provider is not None or not any(os.environ.get(name) for name in COLLECTOR):
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SystemExit(
            f"{COLLECTOR[1]} is set and {error.name} is missing: pip install 'model-training[tracing]'."
        ) from error
    named = {"service.name": service, "service.namespace": "model-training", "process.pid": os.getpid()}
    _provider = TracerProvider(resource=Resource.create(named))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)


def flush() -> None:
    """Send what has not been sent yet, before the process ends."""
    if _provider is not None:
        _provider.force_flush(LAST_SPANS_MS)


def context() -> str | None:
    """The open span as a W3C `traceparent`, to be carried elsewhere; None outside of a trace."""
    return headers().get(HEADER)


def trace_id() -> str | None:
    """The open trace's number, as collectors show it, for the logs; None outside of a trace."""
    parent = context()
    return parent.split("-")[1] if parent else None


def headers() -> dict[str, str]:
    """What a request to another service of the platform carries. Not for endpoints of others."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carried)
    return carried


class Carried(httpx.Auth):
    """Has an httpx client, synchronous or not, send the trace along. Not for endpoints of others.

    A thread begins outside of every trace: a client that is made within one stays in it wherever it is used.
    """

    def __init__(self) -> None:
        self._made_in = headers()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx."""
        request.headers.update(headers() or self._made_in)
        yield request


@contextmanager
def span(
    name: str, parent: str | None = None, attributes: Mapping[str, str | int] | None = None
) -> Generator[Note]:
    """A span for the length of a block; an exception that leaves it is noted.

    Args:
        parent: a `traceparent` from elsewhere; below the open span otherwise.

    Yields:
        What adds an attribute, such as how it ended.
    """
    if _provider is None:
        yield lambda _name, _value: None
        return
    with _tracer().start_as_current_span(name, _below(parent), attributes=dict(attributes or {})) as opened:
        yield opened.set_attribute


def waited(name: str, parent: str | None, since: datetime, attributes: Mapping[str, str | int]) -> None:
    """A span that began in the past and ends now, such as a job's time in the queue."""
    if _provider is not None:
        began_ns = int(since.timestamp() * 1e9)
        _tracer().start_span(name, _below(parent), attributes=dict(attributes), start_time=began_ns).end()


@contextmanager
def continued(parent: str | None) -> Generator[None]:
    """Have what the block makes belong to the trace of `parent`, without a span of its own."""
    if _provider is None or parent is None:
        yield
        return
    from opentelemetry.context import attach, detach

    token = attach(_remote(parent))
    try:
        yield
    finally:
        detach(token)


def _tracer() -> Any:
    return _provider.get_tracer("model_training")


def _below(parent: str | None) -> Context | None:
    return None if parent is None else _remote(parent)


def _remote(parent: str) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: parent})
