"""How quick the first page is in a browser, and how long large things hold the browser's main thread.

A real dashboard process before a stand-in of the gateway (tests/browser), and Debian's Chromium on the same machine:

- the first page, from the request to its first figures, a browser that has nothing stored;
- tasks on the main thread longer than 50 ms (the browser's own count, by the wall clock) while a comparison of 10,000 items
  is opened, filtered, turned over and priced anew, and while a curve of 100,000 points is opened and zoomed;
- the same tasks by the processor time of that thread, as the browser traces it: what else the machine does hardly matters.

What open browsers cost the server is measured by benchmarks/dashboard.py.

    python -m benchmarks.dashboard_chromium [--json benchmarks/results/dashboard-chromium.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, RunningDashboard, running_dashboard
from tests.browser.stand_in import StandIn
from tests.browser.world import add_large, full_world
from tests.conftest import free_ports

AIMS = {"first_page_s": 1.5, "longest_using_ms": 100}
TRACED = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
"""Where Chromium, by its version, writes the tasks of a thread."""
TASKS = {"RunTask", "ThreadControllerImpl::RunTask"}
WATCH = """
window.longTasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.longTasks.push(Math.round(entry.duration))))
  .observe({ type: "longtask", buffered: true });
"""


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as folder:
        world = full_world(Path(folder))
        add_large(world, Path(folder))
        stand_in = StandIn(world, port=free_ports(1))
        stand_in.start()
        with running_dashboard(stand_in.url) as running, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            found = _measure(browser, running)
            browser.close()
        stand_in.stop()
    report = {"machine": _machine(), "aims": AIMS, **found}
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def _measure(browser: Browser, running: RunningDashboard) -> dict[str, Any]:
    first = [_first_page(browser, running.url) for _ in range(6)][1:]
    return {
        "first_page_s": {"median": statistics.median(first), "all": first},
        "items_10000": _items(browser, running.url),
        "curve_100000": _curve(browser, running.url)
        | {"opening_cpu_ms": _curve_opened_ms(browser, running.url)},
    }


def _page(browser: Browser, url: str) -> Page:
    context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(WATCH)
    return page


def _first_page(browser: Browser, url: str) -> float:
    page = _page(browser, url)
    began = time.perf_counter()
    page.goto("/")
    expect(page.get_by_text("Champion").first).to_be_visible()
    took = time.perf_counter() - began
    page.context.close()
    return round(took, 3)


def _tasks(page: Page, since: int = 0) -> list[int]:
    found: list[int] = page.evaluate("window.longTasks")
    return found[since:]


def _items(browser: Browser, url: str) -> dict[str, Any]:
    page = _page(browser, url)
    page.goto("/comparisons/cmp_02many")
    expect(page.get_by_text("1–25 of 10,000")).to_be_visible()
    expect(page.get_by_text("Recommended for")).to_be_visible()
    opening = _tasks(page)
    for turn in range(1, 6):
        page.get_by_role("button", name="Next", exact=True).click()
        expect(page.get_by_text(f"{25 * turn + 1}–{25 * turn + 25} of 10,000")).to_be_visible()
    page.get_by_role("textbox", name="Search").fill("item-99")
    expect(page.get_by_text("of 111")).to_be_visible()
    page.locator(".items-table button.linklike").first.click()
    expect(page.get_by_role("heading", name="Item item-99")).to_be_visible()
    slider = page.get_by_role("slider", name="An hour of the machine")
    slider.locator("[tabindex]").focus()
    for price in ("$0.20", "$0.50", "$1.00"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text(price, exact=True)).to_be_visible()
    page.wait_for_timeout(4000)
    later = _tasks(page, len(opening))
    page.context.close()
    return {"opening_ms": opening, "using_ms": later, "longest_using_ms": max(later, default=0)}


def _cpu_ms(trace: bytes) -> list[int]:
    """Processor time of the longest tasks of the main thread, longest first."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    main = {
        (e["pid"], e["tid"])
        for e in events
        if e.get("name") == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    tasks = [e for e in events if e.get("name") in TASKS and (e["pid"], e["tid"]) in main]
    return sorted((round(e.get("tdur", 0) / 1000) for e in tasks), reverse=True)[:4]


def _curve_opened_ms(browser: Browser, url: str) -> list[int]:
    """The longest task of each of five openings."""
    found: list[int] = []
    for _ in range(5):
        page = _page(browser, url)
        browser.start_tracing(page=page, categories=TRACED)
        page.goto("/jobs/ftjob_03long")
        expect(page.locator(".chart canvas").first).to_be_visible()
        page.wait_for_timeout(4000)
        found.append(_cpu_ms(browser.stop_tracing())[0])
        page.context.close()
    return found


def _curve(browser: Browser, url: str) -> dict[str, Any]:
    page = _page(browser, url)
    page.goto("/jobs/ftjob_03long")
    chart = page.locator(".chart canvas").first
    expect(chart).to_be_visible()
    page.wait_for_timeout(4000)
    opening = _tasks(page)
    chart.hover()
    for _ in range(10):
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(100)
    page.wait_for_timeout(1000)
    later = _tasks(page, len(opening))
    page.context.close()
    return {"opening_ms": opening, "using_ms": later, "longest_using_ms": max(later, default=0)}


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


if __name__ == "__main__":
    main()
