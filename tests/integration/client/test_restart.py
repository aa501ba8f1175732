"""The client watches a job through a gateway that is killed and comes back on the same port."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.jobs import events, transitions
from model_training.client import Client
from model_training.client.resources import jobs as jobs_resource
from model_training.contracts.jobs import JobEvent, JobKind
from tests.conftest import ROOT, Stores, free_ports

KEY = "mt-" + "w" * 43


@contextmanager
def gateway(stores: Stores, url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway.main"],
        cwd=ROOT,
        env={**os.environ, **stores.environment, "MT_GATEWAY_URL": url, "MT_BOOTSTRAP_API_KEY": KEY},
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def say(database: Database, job_id: str, *texts: str) -> None:
    with database.session() as session:
        job = transitions.locked(session, job_id)
        for text in texts:
            events.append(session, job, text)
        events.notify(session, job_id)


def wait_for(seen: list[JobEvent], text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in [event.message for event in seen]:
        assert time.monotonic() < deadline, [event.message for event in seen]
        time.sleep(0.02)


@pytest.mark.slow
def test_nothing_is_missed_and_nothing_comes_twice(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_resource, "RECONNECT_PAUSE_S", 0.1)
    url = f"http://127.0.0.1:{free_ports(1)}"
    with database.session() as session:
        # Of a kind that no worker of this test run takes.
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {}, max_attempts=3).id
    seen: list[JobEvent] = []
    with Client(url, KEY) as client:
        watching = threading.Thread(target=lambda: seen.extend(_each(client, job_id, seen)))
        with gateway(stores, url) as first:
            watching.start()
            say(database, job_id, "before 1", "before 2")
            wait_for(seen, "before 2")
            first.kill()
            first.wait()
        say(database, job_id, "while it was away")
        with gateway(stores, url):
            wait_for(seen, "while it was away")
            say(database, job_id, "after")
            with database.session() as session:
                transitions.request_cancel(session, transitions.locked(session, job_id))
            watching.join(timeout=60)
            assert not watching.is_alive()
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    assert [event.message for event in seen][-2] == "after"
    assert seen[-1].data["state"] == "cancelled"


def _each(client: Client, job_id: str, seen: list[JobEvent]) -> list[JobEvent]:
    for event in client.jobs.watch(job_id):
        seen.append(event)
    return []
