"""A real dashboard process before a stand-in of the gateway, and Debian's Chromium; without it or Playwright: skipped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.browser.stand_in import StandIn
from tests.browser.world import full_world
from tests.conftest import ROOT, free_ports

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium (Debian: apt install chromium)", allow_module_level=True)

NOT_SOCKETS = re.compile(r"^(?!.*/_nicegui_ws/)")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
PATIENCE_MS = int(os.environ.get("MT_TEST_PATIENCE_MS", "60000"))
"""How long a page may take to show what is waited for: other tests may hold every core."""


@dataclass(frozen=True)
class RunningDashboard:
    """Where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_dashboard(
    gateway_url: str, key: str = "k", *, home: str | None = None, port: int | None = None, **environment: str
) -> Iterator[RunningDashboard]:
    """A dashboard process that is ready; it is killed afterwards. Its data directory stays where `home` names one."""
    url = f"http://127.0.0.1:{port or free_ports(1)}"
    with nullcontext(home) if home else tempfile.TemporaryDirectory(prefix="mt-dashboard-") as home:
        settings = {
            "MT_HOME": home,
            "MT_GATEWAY_URL": gateway_url,
            "MT_DASHBOARD_URL": url,
            "MT_DASHBOARD_API_KEY": key,
        }
        command = [sys.executable, "-m", "services.dashboard.main"]
        log = Path(home) / "dashboard.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | settings | environment, stdout=out, stderr=out
            )
        try:
            _wait_ready(process, url, log)
            yield RunningDashboard(url, process)
        finally:
            process.kill()  # it keeps nothing, and would wait five seconds for browsers to leave
            process.wait(timeout=60)


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(1200):
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.1)
    raise AssertionError("the dashboard is not ready after two minutes")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A gateway that answers from a made-up world."""
    found = StandIn(full_world(tmp_path_factory.mktemp("reports")), port=free_ports(1))
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def dashboard(stand_in: StandIn) -> Iterator[RunningDashboard]:
    """A dashboard before the stand-in."""
    with running_dashboard(stand_in.url, MT_GRAFANA_URL="http://127.0.0.1:3000") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    """One Chromium for a file: until Playwright ends, no other test of the process can run an event loop."""
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: sync_api.Browser, dashboard: RunningDashboard) -> Iterator[sync_api.Page]:
    """A fresh page; at its end nothing may have gone wrong in its scripts, and no dialog may have been opened by a text."""
    with opened(chromium, dashboard.url) as page:
        yield page


@contextmanager
def opened(
    browser: sync_api.Browser, url: str, *, width: int = 1200, height: int = 850, dark: bool = False
) -> Iterator[sync_api.Page]:
    """A page of a browser that nobody has used; see `page`."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        timezone_id="Europe/Berlin",
        locale="en-GB",
    )
    context.set_default_timeout(PATIENCE_MS)
    # Chromium drops requests when a network interface of the machine comes or goes, as containers do; this way it does not.
    context.route(NOT_SOCKETS, lambda route: route.fulfill(response=route.fetch(max_redirects=0)))
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}") or dialog.dismiss())
    page.on("requestfailed", lambda request: failed.append(f"{request.url}: {request.failure}"))
    failed: list[str] = []
    outside: list[str] = []
    page.on(
        "request",
        lambda request: (
            outside.append(request.url)
            if not request.url.startswith((url, "data:", "blob:", url.replace("http", "ws")))
            else None
        ),
    )
    yield page
    context.close()
    assert not wrong, failed
    assert not outside, "every asset comes from the dashboard itself"
