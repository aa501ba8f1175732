"""Ten thousand items and a hundred thousand points: the browser is given a page of rows and a screen of points, never all.

How long the main thread is held is measured by benchmarks/dashboard.py: it depends on what else the machine does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import opened, running_dashboard
from tests.browser.stand_in import StandIn
from tests.browser.world import add_large, full_world
from tests.conftest import free_ports

pytestmark = pytest.mark.slow
POINTS = """() => [...document.querySelectorAll('.chart')].flatMap((element) =>
    (getElement(Number(element.id.slice(1))).chart?.getOption()?.series ?? []).map((series) => series.data.length))"""
"""Points of every curve that the browser holds."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard before a platform with large things."""
    folder = tmp_path_factory.mktemp("large")
    world = full_world(folder)
    add_large(world, folder)
    stand_in = StandIn(world, port=free_ports(1))
    stand_in.start()
    with running_dashboard(stand_in.url) as running:
        yield running.url
    stand_in.stop()


@pytest.fixture
def page(chromium: Browser, url: str) -> Iterator[Page]:
    with opened(chromium, url) as page:
        yield page


def test_ten_thousand_items_come_a_page_at_a_time(page: Page) -> None:
    page.goto("/comparisons/cmp_02many")
    expect(page.get_by_text("1–25 of 10,000")).to_be_visible()
    assert page.locator(".items-table tbody tr").count() == 25
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.get_by_text("26–50 of 10,000")).to_be_visible()
    assert "page=2" in page.url
    page.reload()
    expect(page.get_by_text("26–50 of 10,000")).to_be_visible()
    page.get_by_role("textbox", name="Search").fill("item-9999")
    expect(page.get_by_text("1–1 of 1", exact=True)).to_be_visible()
    page.locator(".items-table button.linklike").first.click()
    expect(page.get_by_role("heading", name="Item item-9999")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("heading", name="Item item-9998")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 4000


def test_a_curve_of_a_hundred_thousand_points_is_thinned_out(page: Page) -> None:
    page.goto("/jobs/ftjob_03long")
    expect(page.locator(".chart canvas").first).to_be_visible()
    page.wait_for_function(f"Math.max(...({POINTS})()) > 500")
    assert max(page.evaluate(POINTS)) <= 1_300
