"""The page in a real browser: opens without network, passes axe, prints on A4. Needs Chromium and the `browser` extra."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.comparator.adapters.report_pages import render_html
from tests.unit.comparator.demo_report import demo_report

CHROMIUM = shutil.which("chromium")
sync_api: Any = pytest.importorskip("playwright.sync_api", reason="pip install 'model-training[browser]'")
axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the `browser` extra has it")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    found = demo_report("winner")
    path = tmp_path / "report.html"
    path.write_text(render_html(found.report, found.items), encoding="utf-8")
    context = browser.new_context(
        bypass_csp=True, offline=True
    )  # axe is injected, which our policy would refuse
    page = context.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in {"serious", "critical"}] == []


def test_nothing_is_fetched_and_cards_are_shown_as_they_are_asked_for(page: Any) -> None:
    assert [url for url in page.asked if not url.startswith("file://")] == []
    assert page.locator(".item").count() == 25
    page.locator("#more").click()
    assert page.locator(".item").count() == 50
    page.locator("#search").fill("case 109")
    assert page.locator(".item").count() == 1
    page.locator("#next ~ .card details").first.locator("summary").click()
    page.locator("#next ~ .card a").first.click()
    assert page.locator(".item").count() >= 1


def test_it_prints_on_a4(page: Any) -> None:
    assert page.pdf(format="A4").startswith(b"%PDF")
