"""Every page: open to everybody by axe's rules, light and dark; no sideways scroll at 360 px; a picture for the guide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ROOT, RunningDashboard, opened, running_dashboard
from tests.browser.stand_in import StandIn
from tests.browser.team import team_world
from tests.browser.world import TUNED, empty_world
from tests.conftest import free_ports
from tests.unit.comparator.demo_report import HOSTILE

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.slow

IMAGES = ROOT / "docs" / "guide" / "images"
BAD = {"serious", "critical"}
PAGES = {
    "home": ("/", "Champion"),
    "data": ("/data", "train.jsonl"),
    "data-file": ("/data/file_0000", "qa-0"),
    "learn": ("/data/learn", "Learn"),
    "train": ("/train", "ftjob_02live"),
    "train-new": ("/train/new", "Learning"),
    "train-overlay": ("/train/overlay?jobs=ftjob_01demo,ftjob_02live", "ftjob_01demo"),
    "job": ("/jobs/ftjob_02live", "ftjob_02live"),
    "models": ("/models", TUNED),
    "model": (f"/models/{TUNED}", TUNED),
    "playground": ("/playground?q=How%20do%20I%20split%20a%20list%3F", "Ask"),
    "evaluations": ("/evaluations", "eval_03"),
    "evaluation": ("/evaluations/eval_03", "42 of 120"),
    "comparisons": ("/comparisons", "cmp_01demo"),
    "comparison-new": ("/comparisons/new", "What to compare"),
    "comparison": ("/comparisons/cmp_01demo?outcome=disagree&item=4", "Item code_generation-4"),
    "retrieval": ("/retrieval", "library"),
    "index": ("/retrieval/idx_01demo?q=chunked", "By meaning"),
    "monitoring": ("/monitoring", "CanaryChanged"),
    "monitoring-quality": ("/monitoring?tab=quality", "question length"),
    "monitoring-resources": ("/monitoring?tab=resources", "NVIDIA L4"),
    "settings": ("/settings", "API keys"),
}
"""By name of its picture: the address, and a text that shows that the page is whole."""
HEIGHTS = {"job": 1280, "playground": 900, "comparison": 1000, "monitoring-quality": 1900}
"""Of pictures that show more than the first screen, in pixels."""


def show(page: Page, name: str) -> None:
    """Open a page and wait until it is whole."""
    address, text = PAGES[name]
    page.goto(address)
    expect(page.get_by_text(text).first).to_be_visible()
    if name == "playground":
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_text("done", exact=True)).to_have_count(4)
    expect(page.locator(".state .q-spinner")).to_have_count(0)


def findings(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    found: list[dict[str, Any]] = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in BAD
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_nobody_out_and_fits_a_phone(
    name: str, chromium: Browser, dashboard: RunningDashboard
) -> None:
    with opened(chromium, dashboard.url) as page:
        show(page, name)
        assert findings(page) == []
        page.evaluate("window.dashboard.toggleTheme()")
        page.wait_for_function("document.body.classList.contains('body--dark')")
        # Colours of list entries change over 0.3 s, and axe would measure one on its way.
        page.wait_for_function("document.getAnimations().every(one => !(one instanceof CSSTransition))")
        assert findings(page) == [], "in the dark"
    with opened(chromium, dashboard.url, width=360, height=740) as page:
        show(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert findings(page) == [], "on a phone"


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDashboard]:
    """A dashboard before the platform of a team: the one that the guide shows."""
    stand_in = StandIn(team_world(tmp_path_factory.mktemp("team")), port=free_ports(1))
    stand_in.pause_s = 0.02  # that figures of speed look like some
    stand_in.start()
    with running_dashboard(stand_in.url, MT_GRAFANA_URL="http://127.0.0.1:3000") as running:
        yield running
    stand_in.stop()


@pytest.mark.parametrize("name", PAGES)
def test_a_picture_of_each_page_is_taken(
    name: str, chromium: Browser, at_work: RunningDashboard, tmp_path: Path
) -> None:
    """Into the guide where `MT_TAKE_PICTURES` is set, as `make test-browser` does; in any case small enough for it."""
    with opened(chromium, at_work.url, width=1180, height=HEIGHTS.get(name, 760)) as page:
        show(page, name)
        assert "alert(1)" not in page.inner_text("body"), "the guide's world holds no markup"
        if name == "comparison":
            page.evaluate("window.scrollTo(0, 0)")
        target = (IMAGES if os.environ.get("MT_TAKE_PICTURES") else tmp_path) / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target, animations="disabled")
        assert target.stat().st_size < 250_000


@pytest.mark.parametrize(
    "name", ["home", "data", "train", "models", "playground", "evaluations", "comparisons", "retrieval"]
)
def test_an_empty_platform_says_where_to_start(name: str, chromium: Browser) -> None:
    stand_in = StandIn(empty_world(), port=free_ports(1))
    stand_in.start()
    try:
        with running_dashboard(stand_in.url) as running, opened(chromium, running.url) as page:
            page.goto(PAGES[name][0])
            expect(page.locator(".state.empty, .start-here, .q-uploader, .q-field").first).to_be_visible()
            assert findings(page) == []
    finally:
        stand_in.stop()


def test_where_nobody_answers_every_page_says_so_and_comes_back(chromium: Browser, stand_in: StandIn) -> None:
    with running_dashboard("http://127.0.0.1:1") as running, opened(chromium, running.url) as page:
        for name in ("comparisons", "monitoring", "retrieval", "evaluation"):
            page.goto(PAGES[name][0])
            expect(page.get_by_role("alert").first).to_be_visible()
            assert findings(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_markup_typed_into_every_field_stays_text(
    name: str, chromium: Browser, dashboard: RunningDashboard
) -> None:
    """`opened` fails where a text opened a dialog, raised an error in a script, or asked another host for something."""
    with opened(chromium, dashboard.url) as page:
        show(page, name)
        fields = page.locator("input[type=text]:visible, input:not([type]):visible, textarea:visible")
        for field in fields.all():
            if field.is_editable() and not field.get_attribute("readonly"):
                field.fill(HOSTILE)
                page.keyboard.press("Tab")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.locator("img[src=x]").count() == 0


def test_a_key_that_may_not_observe_is_told_so_and_sees_the_rest(
    page: Page, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "lacking", "observe")
    page.goto("/monitoring")
    expect(page.get_by_text("The key lacks the scope 'observe'.").first).to_be_visible()
    page.goto("/monitoring?tab=resources")
    expect(page.get_by_text("By job")).to_be_visible()
    page.goto("/")
    expect(page.get_by_text("Running now")).to_be_visible()
