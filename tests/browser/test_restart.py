"""The dashboard is killed and started again while somebody waits for answers: login and answers are there afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import opened, running_dashboard
from tests.browser.stand_in import StandIn
from tests.conftest import free_ports

pytestmark = pytest.mark.slow


def test_logins_and_answers_outlive_the_dashboard(
    chromium: Browser, stand_in: StandIn, tmp_path: Path
) -> None:
    port, login = free_ports(1), {"MT_DASHBOARD_LOGIN": "true"}
    with opened(chromium, f"http://127.0.0.1:{port}") as page:
        cards = page.locator("section[aria-label^='Answer of']")
        try:
            with running_dashboard(stand_in.url, home=str(tmp_path), port=port, **login):
                page.goto("/playground?q=How+do+I+split+a+list%3F")
                page.get_by_label("API key").fill("mt-somebody")
                page.get_by_role("button", name="Log in").click()
                expect(page.locator(".q-chip")).to_have_count(4)
                stand_in.pause_s = 3600.0
                page.get_by_role("button", name="Ask", exact=True).click()
                expect(cards.get_by_text("writing", exact=True)).to_have_count(4)
        finally:
            stand_in.pause_s = 0.0
        kept = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
        assert any("How do I split a list?" in text for text in kept)
        assert not any("mt-somebody" in text for text in kept), "keys stay in browsers"
        assert all("mt-somebody" not in str(cookie.get("value")) for cookie in page.context.cookies())
        with running_dashboard(stand_in.url, home=str(tmp_path), port=port, **login):
            expect(cards.get_by_text("done", exact=True)).to_have_count(4)  # the page has loaded itself anew
            expect(page.get_by_role("textbox", name="Question")).to_have_value("How do I split a list?")
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_label("API key")).to_be_visible()
            page.goto("/playground")
            expect(page.get_by_label("API key")).to_be_visible()
