"""Prometheus and Alertmanager with the files of `deploy/prometheus`, and the webhook that hears of alerts."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.prometheus.build import files
from tests.integration.monitor.conftest import wait_for

wants_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
    reason="not installed (Debian: prometheus, prometheus-alertmanager)",
)


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


@contextmanager
def running_prometheus(folder: Path, port: int) -> Iterator[str]:
    """Prometheus with the configuration of a folder; its address."""
    url = f"http://127.0.0.1:{port}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with running(*command, f"--web.listen-address=127.0.0.1:{port}", ready=f"{url}/-/ready"):
        yield url


@contextmanager
def running_alertmanager(folder: Path, port: int) -> Iterator[str]:
    """Alertmanager with the configuration of a folder; its address."""
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus-alertmanager",
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/am",
    ]
    listen = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with running(*command, *listen, ready=f"{url}/-/ready"):
        yield url
