"""A real monitor process on the shared stores, a service for it to watch, and a webhook that writes down what it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from libs.common.service import BackgroundServer, create_app
from tests.conftest import ROOT, Stores, free_ports, scratch_database

NAMES = ("GATEWAY", "INFERENCE", "RAG", "COMPARATOR", "EVALUATOR", "TRAINER", "KEEPER", "DASHBOARD")


@pytest.fixture(scope="session")
def stores(stores: Stores) -> Iterator[Stores]:
    """The shared servers with a database of our own: what other tests left in theirs raises alerts."""
    with scratch_database(stores.settings.database_url) as url:
        yield replace(stores, settings=stores.settings.model_copy(update={"database_url": url}))


@pytest.fixture(scope="session")
def database(stores: Stores) -> Iterator[Database]:
    """Our own database with its default project."""
    database = Database(stores.settings.database_url)
    with database.session() as session:
        session.merge(ProjectRow(id="proj_default", name="default"))
    yield database
    database.close()


@dataclass
class Webhook:
    """What was posted, and what is answered."""

    url: str = ""
    status: int = 200
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: int = 0

    def titled(self, text: str) -> list[dict[str, Any]]:
        """The messages whose title holds a text."""
        return [message for message in self.messages if text in message["title"]]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if hook.status == 200:
                hook.messages.append(json.loads(body))
            else:
                hook.refused += 1
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook.url = f"json://127.0.0.1:{server.server_address[1]}/alerts"
    yield hook
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class RunningMonitor:
    """Where the monitor listens, and its process."""

    url: str
    token: str
    process: subprocess.Popen[bytes]

    def http(self) -> httpx.Client:
        """A client with the platform's own token."""
        headers = {"Authorization": f"Bearer {self.token}", "X-MT-User": "key_test"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def running_monitor(
    stores: Stores, alerts: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningMonitor]:
    """A monitor that looks every 0.2 s, with an `alerts.yaml`."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    with tempfile.TemporaryDirectory(prefix="mt-monitor-") as name:
        own = Path(name) / "alerts.yaml"
        own.write_text(alerts, encoding="utf-8")
        variables = {
            **os.environ,
            **stores.environment,
            **{f"MT_{other}_URL": "http://127.0.0.1:9" for other in NAMES},
            "MT_MONITOR_URL": url,
            "MT_MONITOR_INTERVAL_S": "0.2",
            "MT_ALERTS_FILE": str(own),
            "MT_EGRESS_ALLOWED": '["127.0.0.1"]',  # where the tests' webhooks are
            **(environment or {}),
        }
        with (Path(name) / "log").open("wb") as log:
            command = [sys.executable, "-m", "services.monitor.main"]
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stderr=log)
            try:
                wait_for(lambda: _ready(url, process, Path(name) / "log"), "a ready monitor")
                token = stores.settings.internal_token.get_secret_value()
                yield RunningMonitor(url, token, process)
            finally:
                if process.poll() is None:
                    process.terminate()
                    assert process.wait(timeout=60) in (0, -signal.SIGTERM)


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"the monitor ended: {log.read_text(encoding='utf-8')[-2000:]}"
    try:
        return httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 120) -> Any:
    """What a condition gives as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.1)
    return found


@contextmanager
def watched_service() -> Iterator[tuple[str, BackgroundServer]]:
    """A service with `/metrics`, such as all are."""
    url = f"http://127.0.0.1:{free_ports(1)}"
    server = BackgroundServer(create_app("trainer"), url)
    server.start()
    try:
        yield url, server
    finally:
        server.stop()
