"""One trace from the client's request to the last process that had a part in it, over real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx
import pytest

from libs.common.db.engine import Database
from tests.conftest import ROOT, Stores, free_ports
from tests.integration.gateway.conftest import running_gateway
from tests.integration.monitor.otlp import Collector, Span, collector

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `tracing` is not installed")
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # pragma: allowlist secret
TRAINING = '{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}\n'


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def inference(found: Collector) -> Generator[str]:
    """A stand-in of the inference service, which sends its spans as well."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": found.url}
    command = [sys.executable, "-m", "tests.integration.monitor.stand_in", url]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def work(stores: Stores, found: Collector) -> None:
    """A worker that takes one job and ends."""
    environment = {
        **os.environ,
        **stores.environment,
        "MT_CLAIM_ONE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": found.url,
    }
    command = [sys.executable, "-m", "tests.integration.jobs.toy_worker", "http://127.0.0.1:1"]
    assert subprocess.run(command, cwd=ROOT, env=environment, timeout=120, check=False).returncode == 0


def below(child: Span, parent: Span) -> bool:
    return child.parent == parent.id and child.trace == parent.trace


@pytest.mark.slow
def test_a_request_and_its_job_are_one_trace(stores: Stores, database: Database) -> None:
    with collector() as found, inference(found) as url:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": found.url, "MT_INFERENCE_URL": url}
        with running_gateway(stores, environment) as gateway, gateway.http() as http:
            until(lambda: _answers(url), "the stand-in")
            file = http.post(
                "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("train.jsonl", TRAINING * 12)}
            ).raise_for_status()
            http.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
            body = {"model": "gemma-3-270m-it", "messages": [{"role": "user", "content": "secret words"}]}
            http.post("/v1/chat/completions", json=body).raise_for_status()
            toy = {"toy": json.dumps({"steps": 1})}
            job = {"model": "gemma-3-270m-it", "training_file": file.json()["id"], "metadata": toy}
            job_id = http.post("/v1/fine_tuning/jobs", json=job).raise_for_status().json()["id"]
            work(stores, found)
            state = http.get(f"/v1/fine_tuning/jobs/{job_id}").json()["status"]
        until(lambda: "inference: POST /v1/chat/completions" in found.of(TRACE), "the spans")
    spans = found.of(TRACE)
    assert state == "succeeded"
    asked, made = spans["gateway: POST /v1/chat/completions"], spans["gateway: POST /v1/fine_tuning/jobs"]
    assert asked.parent == made.parent == CALLER
    assert below(spans["inference: POST /v1/chat/completions"], asked)
    waited, attempt = spans["toy: queue train"], spans["toy: attempt train"]
    assert below(waited, made)
    assert below(attempt, made)
    assert made.start <= waited.start <= waited.end <= attempt.end
    assert attempt.attributes["mt.job.id"] == job_id
    assert attempt.attributes["mt.job.outcome"] == "succeeded"
    assert below(spans["jobs: child"], attempt)
    assert not [span for span in found.spans if "/readyz" in span.name or "secret" in str(span)]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False
