"""A real gateway process on the shared PostgreSQL and Valkey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from libs.common.db.engine import Database
from tests.conftest import ROOT, Stores, free_ports

KEY = "mt-" + "k" * 43


@dataclass(frozen=True)
class RunningGateway:
    """Where the gateway listens and a key that it knows."""

    url: str
    key: str

    def http(self) -> httpx.Client:
        """A plain client with the key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def openai(self) -> openai.OpenAI:
        """The unmodified `openai` package."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)


@pytest.fixture(scope="session")
def gateway(stores: Stores, database: Database) -> Iterator[RunningGateway]:
    base = free_ports(7)
    urls = {
        f"MT_{name}_URL": f"http://127.0.0.1:{base + offset}"
        for offset, name in enumerate(
            ["GATEWAY", "INFERENCE", "RAG", "COMPARATOR", "MONITOR", "EVALUATOR", "TRAINER"]
        )
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway.main"],
        cwd=ROOT,
        env={**os.environ, **stores.environment, **urls, "MT_BOOTSTRAP_API_KEY": KEY},
    )
    url = urls["MT_GATEWAY_URL"]
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, "the gateway ended"
            time.sleep(0.1)
        yield RunningGateway(url, KEY)
    finally:
        process.terminate()
        assert process.wait(timeout=15) in (
            0,
            -signal.SIGTERM,
        )  # uvicorn stops cleanly, then lets the signal have its way


@pytest.fixture(scope="session")
def stores_home(stores: Stores) -> Path:
    """The data directory of the shared stores."""
    return stores.home
