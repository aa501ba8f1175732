"""Spans of jobs and what is carried to other processes. Whole traces: tests/integration/monitor/test_traces.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from libs.common import tracing

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `tracing` is not installed")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Tracing of this process alone, into memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_provider", provider)
    yield exporter
    provider.shutdown()


def test_a_span_belongs_to_the_trace_it_is_given_and_is_carried_on(spans: InMemorySpanExporter) -> None:
    queued = datetime.now(UTC) - timedelta(seconds=90)
    tracing.waited("queue train", PARENT, queued, {"mt.job.id": "ftjob_1"})
    with tracing.span("attempt train", PARENT, {"mt.job.attempt": 1}) as note:
        carried = tracing.context()
        assert tracing.trace_id() == PARENT.split("-")[1]
        note("mt.job.outcome", "succeeded")
    assert tracing.context() is None
    waited, attempt = spans.get_finished_spans()
    assert waited.start_time == pytest.approx(queued.timestamp() * 1e9, abs=1e6)
    assert (waited.end_time or 0) - (waited.start_time or 0) >= 90e9
    for span in (waited, attempt):
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert attempt.attributes == {"mt.job.attempt": 1, "mt.job.outcome": "succeeded"}
    here = attempt.get_span_context()
    assert here is not None
    assert carried == f"00-{here.trace_id:032x}-{here.span_id:016x}-01"


def test_an_exception_marks_its_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="broken"), tracing.span("attempt train"):
        raise ValueError("broken")
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok


@pytest.mark.usefixtures("spans")
def test_what_a_pipeline_starts_belongs_to_its_trace() -> None:
    with tracing.continued(PARENT):
        assert tracing.context() == PARENT
    with tracing.continued(None):
        assert tracing.context() is None


@pytest.mark.usefixtures("spans")
def test_requests_carry_the_trace() -> None:
    heard: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("traceparent"))
        return httpx.Response(200)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=tracing.Carried()) as http:
            await http.get("http://inference/")

    with httpx.Client(transport=httpx.MockTransport(answer), auth=tracing.Carried()) as http:
        http.get("http://inference/")
        with tracing.continued(PARENT):
            http.get("http://inference/")
            asyncio.run(ask())
    assert heard == [None, PARENT, PARENT]


def test_without_a_collector_nothing_is_traced_nor_loaded() -> None:
    code = (
        "import sys\n"
        "from libs.common import tracing\n"
        "tracing.begin('x')\n"
        f"with tracing.span('y', '{PARENT}'), tracing.continued('{PARENT}'):\n"
        "    assert tracing.headers() == {}\n"
        "assert 'opentelemetry' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


@pytest.mark.usefixtures("spans")
def test_threads_of_a_client_stay_in_the_trace_it_was_made_in() -> None:
    heard: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("traceparent"))
        return httpx.Response(200)

    with tracing.continued(PARENT):
        http = httpx.Client(transport=httpx.MockTransport(answer), auth=tracing.Carried())
    with http, ThreadPoolExecutor(1) as threads:
        threads.submit(http.get, "http://gateway/").result()
    assert heard == [PARENT]
