"""A real Prometheus and a real Alertmanager with the files of `deploy/prometheus`: from a stopped service to a webhook."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.grafana.build import series_in
from deploy.grafana.check import look
from deploy.grafana.panels import JOBS, OVERVIEW
from deploy.prometheus.build import files
from libs.common.db.engine import Database
from tests.conftest import Stores, free_ports
from tests.integration.monitor.conftest import running_monitor, wait_for, watched_service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
        reason="not installed (Debian: prometheus, prometheus-alertmanager)",
    ),
]


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", told
    server.shutdown()
    server.server_close()


@contextmanager
def running(*command: str, ready: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(ready), command[0])
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


def configured(folder: Path, targets: dict[str, str], alertmanager: int, hook: str) -> None:
    """The shipped files with these addresses, and intervals for a test."""
    texts = files()
    prometheus = yaml.safe_load(texts["prometheus.yml"])
    prometheus["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    prometheus["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
        for name, url in targets.items()
    ]
    rules = yaml.safe_load(texts["rules.yml"])
    for group in rules["groups"]:
        group["interval"] = "1s"
    manager = yaml.safe_load(texts["alertmanager.yml"])
    manager["receivers"][0]["webhook_configs"][0]["url"] = hook
    for name, data in (("prometheus.yml", prometheus), ("rules.yml", rules), ("alertmanager.yml", manager)):
        (folder / name).write_text(yaml.safe_dump(data), encoding="utf-8")


def test_a_stopped_service_reaches_the_webhook_and_panels_have_data(
    stores: Stores, database: Database, tmp_path: Path
) -> None:
    ports = free_ports(3)
    prometheus, manager = f"http://127.0.0.1:{ports}", f"http://127.0.0.1:{ports + 1}"
    with ExitStack() as stack:
        url, service = stack.enter_context(watched_service())
        monitor = stack.enter_context(running_monitor(stores, "{}", {"MT_TRAINER_URL": url}))
        hook, told = stack.enter_context(webhook())
        configured(tmp_path, {"monitor": monitor.url, "trainer": url}, ports + 1, hook)
        stack.enter_context(
            running(
                "prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/am",
                f"--web.listen-address=127.0.0.1:{ports + 1}", "--cluster.listen-address=", ready=f"{manager}/-/ready",
            )
        )  # fmt: skip
        stack.enter_context(
            running(
                "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
                f"--web.listen-address=127.0.0.1:{ports}", ready=f"{prometheus}/-/ready",
            )
        )  # fmt: skip

        def asked(expr: str) -> list[Any]:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expr}, timeout=60)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]["result"]

        wait_for(lambda: asked('mt_service_up{service="trainer"} == 1'), "the first readings")
        service.stop()
        messages = wait_for(lambda: [one for one in told if one["status"] == "firing"], "the message", 180)
        alert = messages[0]["alerts"][0]
        assert alert["labels"]["alertname"] == "ServiceDown"
        assert alert["annotations"]["summary"] == "trainer does not answer"
        assert alert["annotations"]["runbook"].endswith("docs/guide/runbooks.md#servicedown")
        # Whatever the monitor alone exports has data by now, but for cards and for counters that nothing has moved.
        for one in look(prometheus, time.time() - 120, time.time()):
            if one.dashboard in (OVERVIEW, JOBS) and not one.excused:
                gauges = [expr for expr in one.empty if all(map(is_gauge_of_monitor, series_in(expr)))]
                assert gauges == [], f"{one.panel.title} has no data"


def is_gauge_of_monitor(name: str) -> bool:
    return name.startswith(("mt_host", "mt_service_up", "mt_queue"))
