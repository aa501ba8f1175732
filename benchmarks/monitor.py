"""The monitor's own cost, how fast it takes readings in, how long a year takes to read, and from a fault to a webhook.

PostgreSQL and Valkey are started for the run, a monitor process with its default interval and rules, and small services in
this process for it to watch. Wall times suffer from whatever else runs on the machine; processor times, of this process and
of PostgreSQL's together, hardly do.

    python -m benchmarks.monitor [--seconds 60] [--json benchmarks/results/monitor.json]
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import text

from libs.common.db.engine import Database
from libs.common.service import BackgroundServer, create_app
from migrations.upgrade import upgrade
from model_training.embedded import postgres, valkey
from model_training.embedded.platform import Platform
from model_training.embedded.ports import free_port
from services.monitor.adapters.rule_files import shipped_rules
from services.monitor.domain.samples import Reading, Samples
from services.monitor.repository import history as store
from services.monitor.service.history import read
from services.monitor.service.watching import kept_s

ROOT = Path(__file__).parent.parent
METRIC, HOURS = "mt_job_progress_ratio", 365 * 24
WATCHED = ("gateway", "inference", "rag", "comparator", "evaluator", "trainer")
AIMS = {
    "readings_per_second": 20_000,
    "rows_per_second": 20_000,
    "rows_per_processor_second": 20_000,
    "year_read_ms": 200,
    "year_read_processor_ms": 200,
    "own_cpu_share_of_two_cores": 0.01,
    "fault_to_webhook_s": 60,
}


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the quiet monitor is watched")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mt-bench-") as home, ExitStack() as stack:
        site = Platform(home, services=(), model=None, port_base=free_port())
        state = stack.enter_context(site.running())
        url = postgres.database_url(site.home)
        upgrade(url)
        database = Database(url, pool_size=1, overflow=0)
        port = next(service.port for service in state.services if service.name == "valkey")
        broker = valkey.broker_url(port or 0, site.home.secrets().broker_password)
        found = {"readings_per_second": intake(), **rows(database)}
        database.close()
        found |= process(site, url, broker, options.seconds)
    report = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "aims": AIMS,
        "found": {name: round(value, 4) for name, value in found.items()},
    }
    for name, value in found.items():
        print(f"{name:32} {value:12.4g}   aim {AIMS.get(name, '-')}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def intake() -> float:
    """Readings a second of processor time that the rules' memory takes in."""
    series = [
        Reading("mt_http_requests_total", (("route", str(n)), ("status", "200")), 0.0) for n in range(500)
    ]
    samples = Samples(kept_s(shipped_rules()), 0.0)
    started = time.process_time()
    for step in range(200):
        samples.add(step * 10.0, series)
    return 200 * len(series) / (time.process_time() - started)


def rows(database: Database) -> dict[str, float]:
    """Rows a second into PostgreSQL (median of five), and milliseconds to read a year of one series (median of nine)."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=365)
    writes = [_timed(partial(_write, database, start, f"ftjob_{n}"), database) for n in range(5)]
    reads = [_timed(partial(_read, database, start, "ftjob_2"), database) for _ in range(9)]
    wall, processor = (statistics.median(times) for times in zip(*writes, strict=True))
    read_wall, read_processor = (statistics.median(times) for times in zip(*reads, strict=True))
    return {
        "rows_per_second": HOURS / wall,
        "rows_per_processor_second": HOURS / processor,
        "year_read_ms": 1000 * read_wall,
        "year_read_processor_ms": 1000 * read_processor,
    }


def _write(database: Database, start: datetime, job: str) -> None:
    with database.session() as session:
        number = store.series_id(session, METRIC, {"job_id": job}, json.dumps({"job_id": job}))
        year = [store.Stretch(number, start + timedelta(hours=n), 1.0, 0.0, 2.0, 360) for n in range(HOURS)]
        store.put(session, year, store.HOUR_S)


def _read(database: Database, start: datetime, job: str) -> None:
    with database.session() as session:
        history = read(session, METRIC, {"job_id": job}, start, None)
    assert len(history.series[0].points) == HOURS
    history.model_dump_json()


def _timed(work: Callable[[], None], database: Database) -> tuple[float, float]:
    """Seconds by the clock, and of processors: ours and those of the connection's server process."""
    own, server, began = time.process_time(), _server_cpu_s(database), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    return wall, time.process_time() - own + _server_cpu_s(database) - server


def _server_cpu_s(database: Database) -> float:
    """Of the one connection in the pool."""
    with database.session() as session:
        pid = session.execute(text("select pg_backend_pid()")).scalar_one()
    return sum(psutil.Process(pid).cpu_times()[:2])


def process(site: Platform, database_url: str, broker: str, seconds: float) -> dict[str, float]:
    """The processor share of a monitor that watches six services, and the seconds from a stopped one to a webhook."""
    told = threading.Event()

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if b"trainer does not answer" in body:
                told.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in (*WATCHED, "monitor", "keeper", "dashboard")}
    servers = {name: BackgroundServer(create_app(name), urls[name]) for name in WATCHED}
    for server in servers.values():
        server.start()
    environment = {
        **os.environ,
        **{f"MT_{name.upper()}_URL": url for name, url in urls.items()},
        "MT_HOME": str(site.home.root),
        "MT_DATABASE_URL": database_url,
        "MT_BROKER_URL": broker,
        "MT_INTERNAL_TOKEN": site.home.secrets().internal_token,
        "MT_ALERT_URLS": json.dumps([f"json://127.0.0.1:{hook.server_address[1]}/"]),
        "MT_EGRESS_ALLOWED": json.dumps(["127.0.0.1"]),  # where the webhook is
        "MT_LOG_LEVEL": "ERROR",
    }
    child = subprocess.Popen([sys.executable, "-m", "services.monitor.main"], cwd=ROOT, env=environment)
    try:
        _until_seen(urls["monitor"], child)
        watched = psutil.Process(child.pid)
        before, began = sum(watched.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds)
        share = (sum(watched.cpu_times()[:2]) - before) / (time.monotonic() - began) / 2
        servers["trainer"].stop()
        stopped = time.monotonic()
        told.wait(300)
        memory = watched.memory_info().rss / 1e6
        return {
            "own_cpu_share_of_two_cores": share,
            "own_memory_mb": memory,
            "fault_to_webhook_s": time.monotonic() - stopped if told.is_set() else float("inf"),
        }
    finally:
        child.terminate()
        child.wait(timeout=60)
        hook.shutdown()
        for server in servers.values():
            server.stop()


def _until_seen(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if 'mt_service_up{service="trainer"} 1.0' in httpx.get(f"{url}/metrics", timeout=30).text:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise RuntimeError("the monitor has not seen its services")


if __name__ == "__main__":
    main()
