"""The pages that people look at most, in a real browser: answers side by side, a comparison, an alert. A few seconds in all.

All sizes, every page and the story on a whole platform: `make test-browser`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from model_training.contracts.files import FilePurpose
from tests.browser.stand_in import StandIn
from tests.browser.world import BASE, INDEX, TUNED
from tests.unit.comparator.demo_report import HOSTILE

ARMS = (BASE, f"rag:{INDEX}@{BASE}", TUNED, f"rag:{INDEX}@{TUNED}")


@pytest.fixture
def slow_answers(stand_in: StandIn) -> Iterator[StandIn]:
    """Answers that go on until the test lets them end."""
    stand_in.pause_s = 3600.0
    yield stand_in
    stand_in.pause_s = 0.0


def test_four_arms_answer_survive_refresh_and_restart_and_are_voted_on(
    page: Page, slow_answers: StandIn
) -> None:
    page.goto("/playground")
    page.get_by_role("textbox", name="Question").fill("How do I split a list?")
    expect(page.get_by_text(f"rag:{INDEX}@{TUNED}")).to_be_visible()  # the usual four are chosen
    page.keyboard.press("Control+Enter")
    cards = page.locator("section[aria-label^='Answer of']")
    expect(cards).to_have_count(4)
    expect(cards.get_by_text("writing", exact=True)).to_have_count(
        4
    )  # all at once: each has begun, none is done
    assert [asked["model"] for asked in slow_answers.asked[-4:]] != []
    assert {asked["model"] for asked in slow_answers.asked[-4:]} == set(ARMS)

    page.reload()
    expect(page.get_by_role("textbox", name="Question")).to_have_value("How do I split a list?")
    expect(cards.get_by_text("writing", exact=True)).to_have_count(4)

    slow_answers.stop()
    expect(cards.get_by_text("asking again")).to_have_count(4)
    slow_answers.pause_s = 0.0
    slow_answers.start()
    expect(cards.get_by_text("done", exact=True)).to_have_count(4)
    expect(
        cards.get_by_text(re.compile(r"first word .* s · .* s · \d+ tokens read, \d+ written.* · \$"))
    ).to_have_count(4)
    expect(cards.locator(".mark").first).to_contain_text("breaks an iterable into lists")

    page.get_by_role("button", name=f"{TUNED} answers best").click()
    expect(page.get_by_text("Your choice")).to_have_count(1)
    assert slow_answers.world.votes[-1]["chosen"] == TUNED

    page.get_by_text("Keep this question for evaluations").click()
    page.get_by_role("button", name=f"Take {TUNED}'s answer").click()
    page.get_by_role("button", name="Add to the evaluation set").click()
    expect(page.get_by_text(re.compile("playground.jsonl is file_"))).to_be_visible()
    added = [
        content for file, content in slow_answers.world.files.values() if file.filename == "playground.jsonl"
    ]
    row = json.loads(added[-1])
    assert (row["question"], row["suite"]) == ("How do I split a list?", "playground")


def test_a_comparison_says_its_verdict_first_and_follows_filters_and_prices(page: Page) -> None:
    page.goto("/comparisons/cmp_01demo?outcome=disagree")
    expect(page.get_by_role("heading", name="Deploy: tuned+rag")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^1–25 of \d+$"))).to_be_visible()
    expect(page.get_by_role("cell", name="✓ right").first).to_be_visible()
    page.get_by_role("textbox", name="Search").fill("case 4)")
    expect(page.get_by_text("1–1 of 1")).to_be_visible()
    assert "search=case+4" in page.url

    saved = page.locator("table", has_text="saves for 1,000 questions").locator("tbody tr").first
    before = saved.inner_text()
    page.get_by_role("slider", name="An hour of the machine").locator("[tabindex]").focus()
    for price in ("$0.20", "$0.50", "$1.00", "$2.00"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text(price, exact=True)).to_be_visible()
    expect(saved).not_to_have_text(before)
    expect(page.get_by_text(re.compile("^(Recommended for|Cannot tell yet here)"))).to_be_visible()

    with page.expect_download() as download:
        page.get_by_role("button", name="For a spreadsheet (csv)").click()
    assert download.value.suggested_filename == "cmp_01demo.csv"


def test_what_models_wrote_stays_text(page: Page, stand_in: StandIn) -> None:
    stand_in.answers = dict.fromkeys(ARMS, HOSTILE)
    try:
        page.goto("/comparisons/cmp_01demo?item=3")
        expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
        page.goto("/playground")
        page.get_by_role("textbox", name="Question").fill(HOSTILE)
        page.get_by_role("button", name="Ask", exact=True).click()
        cards = page.locator("section[aria-label^='Answer of']")
        expect(cards).to_have_count(4)
        for card in cards.all():
            expect(card.locator(".answer").first).to_contain_text("<script>alert(1)</script>")
        assert page.locator("img[src=x]").count() == 0
    finally:
        stand_in.answers = {}


def test_an_alert_is_acknowledged_and_silenced(page: Page, stand_in: StandIn) -> None:
    page.goto("/monitoring")
    card = page.locator(".alert-card", has_text="QueueOld")
    card.get_by_role("button", name="Acknowledge").click()
    page.get_by_label("Note").fill("looking <b>at</b> it")
    page.get_by_role("button", name="Do it").click()
    expect(card.get_by_text("default: looking <b>at</b> it")).to_be_visible()
    card.get_by_role("button", name="Silence").click()
    page.get_by_role("dialog").get_by_role("button", name="Silence").click()
    expect(card.get_by_text("silenced", exact=True)).to_be_visible()
    page.get_by_role("button", name="End", exact=True).click()
    expect(card.get_by_text("silenced", exact=True)).to_have_count(0)
    assert stand_in.world.alerts["alert_02"].acknowledged_by == "default"
    assert any(file.purpose is FilePurpose.EVALUATION for file, _ in stand_in.world.files.values())


def test_drift_of_live_questions_is_seen_and_accepted(page: Page) -> None:
    page.goto("/monitoring?tab=quality")
    card = page.locator("section.card", has_text="Drift: are live questions")
    expect(card.get_by_text("drifted", exact=True)).to_be_visible()
    expect(card.get_by_text("question length (questions)")).to_be_visible()
    card.get_by_role("button", name="Accept").click()
    expect(card.get_by_text("As accepted, by windows of 200.")).to_be_visible()
    expect(card.get_by_role("button", name="Accept")).to_have_count(0)
