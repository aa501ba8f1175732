"""Real gateway processes on the shared PostgreSQL and Valkey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from libs.common.db.engine import Database
from tests.conftest import ROOT, Stores, free_ports

KEY = "mt-" + "k" * 43
NEIGHBOURS = ("GATEWAY", "INFERENCE", "RAG", "COMPARATOR", "MONITOR", "EVALUATOR", "TRAINER")


@dataclass(frozen=True)
class RunningGateway:
    """Where the gateway listens, a key that it knows, its process and where its log goes."""

    url: str
    key: str
    process: subprocess.Popen[bytes]
    log: Path

    def http(self, key: str | None = None, timeout: float = 60) -> httpx.Client:
        """A plain client with the key."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """The unmodified `openai` package."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0)


@contextmanager
def running_gateway(
    stores: Stores, environment: Mapping[str, str] | None = None, *, port: int | None = None
) -> Iterator[RunningGateway]:
    """A gateway process that is ready; it is stopped afterwards if it still runs."""
    base = port or free_ports(len(NEIGHBOURS))
    urls = {f"MT_{name}_URL": f"http://127.0.0.1:{base + offset}" for offset, name in enumerate(NEIGHBOURS)}
    environment = {
        **os.environ,
        **stores.environment,
        **urls,
        "MT_BOOTSTRAP_API_KEY": KEY,
        "MT_LOG_LEVEL": "DEBUG",
        "MT_GATEWAY_PROCESSES": "1",
        **(environment or {}),
    }
    with tempfile.NamedTemporaryFile(prefix="gateway-", suffix=".log") as log:
        command = [sys.executable, "-m", "services.gateway.main"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        try:
            _wait_ready(process, environment["MT_GATEWAY_URL"], Path(log.name))
            yield RunningGateway(environment["MT_GATEWAY_URL"], KEY, process, Path(log.name))
        finally:
            if process.poll() is None:
                process.terminate()
                # uvicorn stops cleanly, then lets the signal have its way
                assert process.wait(timeout=60) in (0, -signal.SIGTERM)


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            assert process.poll() is None, f"the gateway ended: {log.read_text(encoding='utf-8')[-2000:]}"
        time.sleep(0.1)
    raise AssertionError("the gateway is not ready after a minute")


@pytest.fixture(scope="session")
def keeper(stores: Stores, database: Database) -> Iterator[subprocess.Popen[bytes]]:
    """The keeper's process, for tests whose jobs must reach a worker. Nobody waits for it: its rows wait."""
    environment = {
        **os.environ,
        **stores.environment,
        "MT_KEEPER_URL": f"http://127.0.0.1:{free_ports(1)}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway.keeper"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture(scope="session")
def gateway(stores: Stores, database: Database) -> Iterator[RunningGateway]:
    with running_gateway(stores) as running:
        yield running


@pytest.fixture(scope="session")
def stores_home(stores: Stores) -> Path:
    """The data directory of the shared stores."""
    return stores.home
