"""A gateway on a database of its own with a history in it, and a dashboard process that is its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from model_training.client import Client
from tests.conftest import ROOT, Stores, free_ports, scratch_database
from tests.integration.dashboard import seed
from tests.integration.gateway.conftest import KEY, RunningGateway, running_gateway


@dataclass(frozen=True)
class Site:
    """A gateway with a history: ids of an uploaded file and of runs."""

    gateway: RunningGateway
    environment: Mapping[str, str]
    port: int
    file: str
    runs: list[str]

    def client(self) -> Client:
        """The typed client."""
        return Client(self.gateway.url, KEY)


@pytest.fixture(scope="package")
def site(stores: Stores) -> Iterator[Site]:
    """Three finished runs, one that runs, a file with a row that would be markup, and a champion."""
    with scratch_database(stores.settings.database_url) as url:
        database = Database(url)
        with database.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        environment = {"MT_DATABASE_URL": url}
        port = free_ports(7)
        with running_gateway(stores, environment, port=port) as gateway:
            file = _upload(gateway)
            yield Site(gateway, environment, port, file, seed.fill(database, file))
        database.close()


def _upload(gateway: RunningGateway) -> str:
    rows = [{"question": f"What is {number}?", "answer": f"It is {number}."} for number in range(30)]
    rows.append({"question": seed.XSS, "answer": "A picture."})
    with tempfile.TemporaryDirectory() as directory, Client(gateway.url, KEY) as client:
        path = Path(directory) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return client.files.upload(path, "fine-tune").id


@contextmanager
def running_dashboard(gateway_url: str, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A dashboard process, and a plain client of it that keeps cookies."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    with tempfile.TemporaryDirectory(prefix="dashboard-") as home:
        env = {
            **os.environ,
            "MT_HOME": home,
            "MT_GATEWAY_URL": gateway_url,
            "MT_DASHBOARD_URL": url,
            **environment,
        }
        process = subprocess.Popen([sys.executable, "-m", "services.dashboard.main"], cwd=ROOT, env=env)
        try:
            with httpx.Client(base_url=url, timeout=120) as client:
                _wait_ready(client, process)
                yield client
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, "the dashboard ended"
        time.sleep(0.1)
    raise AssertionError("the dashboard is not ready after two minutes")


@pytest.fixture(scope="package")
def dashboard(site: Site) -> Iterator[httpx.Client]:
    """A dashboard with the key of the platform."""
    with running_dashboard(site.gateway.url, {"MT_DASHBOARD_API_KEY": KEY}) as client:
        yield client
