"""How large a comparison's report is, and how long a browser takes to open it: 5,000 items with four arms.

The page is written by the product's own renderer from answers of a made-up comparison (tests/unit/comparator/demo_report.py)
and opened from a file in Debian's Chromium, offline, in a new context each time. It is open when the load event is over and
its first 25 items can be seen; then a search is typed and answered. Any other tool's page of the same size is opened
beside it in the same run when its file is given.

    python -m benchmarks.report [--items 5000] [--beside PEER.html] [--json benchmarks/results/report.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from services.comparator.adapters.report_pages import render_html
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.unit.comparator.demo_report import demo_report

AIMS = {"megabytes": 15, "opened_s": 2}
ROUNDS = 5


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--beside", type=Path, help="another tool's page to open in the same run")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    expect.set_options(timeout=60_000)
    report: dict[str, Any] = {"aims": AIMS, "items": options.items, "machine": _machine()}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path, report["written_s"] = _written(Path(folder), options.items)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        report["chromium"] = browser.version
        report["ours"] = _measured(browser, path, ours=True)
        if options.beside:
            report["beside"] = _measured(browser, options.beside, ours=False)
            report["loaded_of_beside"] = round(
                report["ours"]["loaded_s"]["median"] / report["beside"]["loaded_s"]["median"], 3
            )
        browser.close()
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def _written(folder: Path, items: int) -> tuple[Path, float]:
    """The page's file, and the seconds its writing took."""
    demo = demo_report("winner", items=items // 2)  # of each of two suites
    began = time.perf_counter()
    path = folder / "report.html"
    path.write_text(render_html(demo.report, demo.items), encoding="utf-8")
    return path, round(time.perf_counter() - began, 2)


def _measured(browser: Browser, path: Path, *, ours: bool) -> dict[str, Any]:
    rounds = [_opened(browser, path, ours=ours) for _ in range(ROUNDS)]
    return {"megabytes": round(path.stat().st_size / 1e6, 2)} | {
        name: {"median": statistics.median(of), "all": of}
        for name in rounds[0]
        for of in [[one[name] for one in rounds]]
    }


def _opened(browser: Browser, path: Path, *, ours: bool) -> dict[str, float]:
    """Seconds from the request to the load event, to the first items, and from a typed filter to its answer."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    began = time.perf_counter()
    page.goto(path.resolve().as_uri(), wait_until="load")
    found = {"loaded_s": time.perf_counter() - began}
    if ours:
        expect(page.locator(".item")).to_have_count(25)
        found["opened_s"] = time.perf_counter() - began
        found["filtered_s"] = _filtered(page)
    context.close()
    return {name: round(seconds, 3) for name, seconds in found.items()}


def _filtered(page: Page) -> float:
    page.locator('[data-filter="all"]').click()
    began = time.perf_counter()
    page.locator("#search").fill("case 1099")
    expect(page.locator("#count")).to_have_text(re.compile(r"^(\d) of \1 shown$"))
    return time.perf_counter() - began


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


if __name__ == "__main__":
    main()
