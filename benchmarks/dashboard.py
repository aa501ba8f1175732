"""What the dashboard costs: seconds to start, memory, processor time for each open browser, and how soon a page is there.

A gateway with a history is started for the run. Browsers are sockets as NiceGUI's page opens them, without drawing, so what
is measured is the server's part. Wall times suffer from whatever else runs on the machine; processor times do not.

    python -m benchmarks.dashboard [--browsers 50] [--seconds 30] [--json benchmarks/results/dashboard.json]
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil
import socketio

from libs.common.db.engine import Database
from model_training.client import Client
from model_training.embedded import postgres
from model_training.embedded.platform import Platform
from model_training.embedded.ports import free_port
from model_training.embedded.units import SERVICES
from tests.integration.dashboard import seed

ROOT = Path(__file__).parent.parent
PARTS = {"gateway", "monitor"}
PAGES = ("/", "/train", "/jobs/ftjob_live")
AIMS = {"share_of_a_core": 0.10, "first_page_s": 1.5}
QUERY = re.compile(r"query: (\{.*?\}),\n")


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long open pages are watched")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"machine": _machine(), "aims": AIMS, **measure(options.browsers, options.seconds)}
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")


def measure(browsers: int, seconds: float) -> dict[str, Any]:
    """Start everything, and look at each page."""
    services = tuple(spec for spec in SERVICES if spec.name in PARTS)
    with tempfile.TemporaryDirectory(prefix="bench-dashboard-") as home:
        platform_ = Platform(home, services=services, model=None, port_base=free_port())
        with platform_.running() as state:
            _fill(platform_, state.gateway_url, Path(home))
            url = f"http://127.0.0.1:{free_port()}"
            env = os.environ | {"MT_HOME": home, "MT_GATEWAY_URL": state.gateway_url, "MT_DASHBOARD_URL": url}
            began = time.monotonic()
            process = subprocess.Popen([sys.executable, "-m", "services.dashboard.main"], cwd=ROOT, env=env)
            try:
                _wait_ready(url)
                started_s = time.monotonic() - began
                return _look(psutil.Process(process.pid), url, browsers, seconds) | {
                    "started_s": round(started_s, 2)
                }
            finally:
                process.terminate()
                process.wait(30)


def _fill(platform_: Platform, gateway_url: str, home: Path) -> None:
    rows = home / "rows.jsonl"
    rows.write_text('{"question": "What?", "answer": "That."}\n' * 20, encoding="utf-8")
    with Client(gateway_url, platform_.home.api_key()) as client:
        file = client.files.upload(rows, "fine-tune").id
    database = Database(postgres.database_url(platform_.home))
    seed.fill(database, file, points=2000)
    database.close()


def _look(process: psutil.Process, url: str, browsers: int, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {"memory_mb": round(process.memory_info().rss / 1e6), "pages": {}}
    with httpx.Client(base_url=url, timeout=60) as http:
        for path in PAGES:
            began = time.monotonic()
            http.get(path).raise_for_status()
            first_s = time.monotonic() - began
            found["pages"][path] = {"first_answer_s": round(first_s, 3)} | asyncio.run(
                _open(process, url, path, browsers, seconds)
            )
    found["memory_with_browsers_mb"] = round(process.memory_info().rss / 1e6)
    return found


async def _open(
    process: psutil.Process, url: str, path: str, browsers: int, seconds: float
) -> dict[str, Any]:
    """Open a page in so many browsers, wait until they are quiet, and see what keeping them costs."""
    before = _cpu_s(process)
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        opened = [await _browser(http, url, path) for _ in range(browsers)]
    opening = _cpu_s(process) - before
    await asyncio.sleep(5)
    before, began = _cpu_s(process), time.monotonic()
    await asyncio.sleep(seconds)
    share = (_cpu_s(process) - before) / (time.monotonic() - began)
    for browser in opened:
        await browser.disconnect()
    return {
        "browsers": browsers,
        "cpu_s_to_open_one": round(opening / browsers, 4),
        "share_of_a_core": round(share, 4),
        "cpu_s_a_browser_and_hour": round(share / browsers * 3600, 2),
    }


async def _browser(http: httpx.AsyncClient, url: str, path: str) -> socketio.AsyncClient:
    """A socket as the page itself opens it."""
    match = QUERY.search((await http.get(path)).text)
    assert match is not None, f"{path} opens no socket"
    told = ast.literal_eval(match.group(1))
    query = f"client_id={told['client_id']}&next_message_id={told['next_message_id']}&implicit_handshake=true"
    query += f"&document_id={uuid.uuid4()}&tab_id={uuid.uuid4()}&old_tab_id=null"
    client = socketio.AsyncClient()
    await client.connect(
        f"{url}/_nicegui_ws/?{query}", socketio_path="/_nicegui_ws/socket.io", transports=["websocket"]
    )
    return client


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _wait_ready(url: str) -> None:
    while True:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
