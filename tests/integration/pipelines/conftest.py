"""A gateway of its own on a database of its own, and toy workers; keepers are elected per database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from model_training.client.client import Client
from model_training.contracts.jobs import FINAL_STATES, JobState
from model_training.contracts.pipelines import Pipeline
from tests.conftest import ROOT, Stores, free_ports, scratch_database
from tests.integration.pipelines.toy_workers import KINDS

KEY = "mt-" + "p" * 43


def wait_until(condition: Callable[[], Any], timeout_s: float = 120) -> Any:
    """What `condition` gives as soon as it gives something."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@contextmanager
def process(module: str, *arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended whatever happens. Does not wait until it is ready: several may start at once."""
    started = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env={**os.environ, **env}
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@dataclass
class Lab:
    """The parts that a test of pipelines works with."""

    env: dict[str, str]
    home: Path
    database: Database
    url: str

    @contextmanager
    def gateway(self) -> Iterator[subprocess.Popen[bytes]]:
        """A gateway that serves, and the process that keeps; the latter is what a test gets to kill."""
        keeper_url = f"http://127.0.0.1:{free_ports(1)}"
        env = {
            **self.env,
            "MT_GATEWAY_URL": self.url,
            "MT_KEEPER_URL": keeper_url,
            "MT_GATEWAY_PROCESSES": "1",
        }
        with process("services.gateway.main", env=env), process("services.gateway.keeper", env=env) as keeper:
            for url in (self.url, keeper_url):
                wait_until(lambda url=url: httpx.get(f"{url}/readyz").status_code == 200)
            yield keeper

    def client(self) -> Client:
        """The typed client, as the command line uses it."""
        return Client(base_url=self.url, api_key=KEY)

    def http(self) -> httpx.Client:
        """A plain client with the key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)

    def set(self, kind: str, *, fault: str = "", seconds: float = 0.0) -> None:
        """What jobs of a kind do from now on."""
        toys = self.home / "toys"
        toys.mkdir(exist_ok=True)
        (toys / f"{kind}.fault").write_text(fault, encoding="utf-8")
        (toys / f"{kind}.seconds").write_text(str(seconds), encoding="utf-8")

    def ended(self, pipeline_id: str, timeout_s: float = 120) -> Pipeline:
        """The pipeline, once it has ended."""
        with self.client() as client:
            wait_until(lambda: client.jobs.get(pipeline_id).state in FINAL_STATES, timeout_s)
            return client.pipelines.get(pipeline_id)

    def state(self, pipeline_id: str, state: JobState) -> None:
        """Wait until the pipeline has a state."""
        with self.client() as client:
            wait_until(lambda: client.jobs.get(pipeline_id).state == state)


@pytest.fixture(scope="package")
def lab(stores: Stores) -> Iterator[Lab]:
    """A migrated database and four workers, without a gateway."""
    with scratch_database(stores.settings.database_url) as url:
        own = Database(url)
        with own.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        env = {
            **stores.environment,
            "MT_DATABASE_URL": url,
            # Another database of the same server: workers of other tests must not take our doorbells.
            "MT_BROKER_URL": stores.settings.broker_url.rpartition("/")[0] + "/1",
            "MT_BOOTSTRAP_API_KEY": KEY,
        }
        with process("tests.integration.pipelines.toy_workers", env=env):
            yield Lab(env, stores.home, own, f"http://127.0.0.1:{free_ports(1)}")
        own.close()


@pytest.fixture(scope="package")
def gateway(lab: Lab) -> Iterator[Lab]:
    """The lab with a gateway that is not disturbed."""
    with lab.gateway():
        yield lab


@pytest.fixture
def files(lab: Lab, tmp_path: Path) -> Callable[[Client], dict[str, str]]:
    """Uploads a data set that no other test has, so that nothing can be reused by accident."""

    def upload(client: Client) -> dict[str, str]:
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        rows = {
            "train": ("fine-tune", f'{{"question": "q {mark}", "answer": "a"}}\n'),
            "chunks": ("chunks", f'{{"id": "1", "title": "t", "text": "text {mark}"}}\n'),
        }
        ids: dict[str, str] = {}
        for name, (purpose, row) in rows.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text(row, encoding="utf-8")
            ids[name] = client.files.upload(path, purpose).id
        return ids

    return upload


@pytest.fixture(autouse=True)
def well_behaved(lab: Lab) -> None:
    """Every test begins with workers that do their work at once."""
    for kind in KINDS:
        lab.set(kind.value)


def kill(started: subprocess.Popen[bytes]) -> None:
    """kill -9, and wait until it is gone."""
    started.send_signal(signal.SIGKILL)
    started.wait()
