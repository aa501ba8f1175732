"""The report's files: the shape of the JSON, a page that asks for nothing and runs nothing of others, and Markdown."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from model_training.contracts.comparisons import ComparisonReport, SideBySide
from services.comparator.adapters.formats import cell, measured, money, plain, seconds, signed_points, visible
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.domain.break_even import when
from services.comparator.domain.charts import difference_axis, loss_chart, rate_axis
from services.comparator.domain.dataset_view import build_dataset_view
from services.comparator.domain.page import build_page
from services.comparator.service.running import Outcome, Pages, items_csv, write_report
from tests.unit.comparator.demo_report import HOSTILE, demo_queries, demo_report

VOID = {"meta", "link", "br", "img", "input", "line", "circle", "rect", "polyline", "hr"}


class Checker(HTMLParser):
    """Collects what could run or fetch, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetching: list[str] = []
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "srcset", "action", "data"} or (
                name == "href" and not (value or "").startswith("#")
            ):
                self.fetching.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open
            assert self.open.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] not in {"style", "title"}:
            self.text.append(data)


@pytest.fixture(scope="module")
def demo() -> Outcome:
    return demo_report("winner")


@pytest.fixture(scope="module")
def page(demo: Outcome) -> str:
    return render_html(demo.report, demo.items)


def test_files_are_written_whole(tmp_path: Path, demo: Outcome) -> None:
    for _ in range(2):
        directory = write_report(tmp_path, demo, Pages(render_html, render_markdown))
    assert sorted(path.name for path in directory.iterdir()) == [
        "items.jsonl",
        "report.csv",
        "report.html",
        "report.json",
        "report.jsonl",
        "report.md",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    raw: dict[str, Any] = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert ComparisonReport.model_validate(raw) == demo.report
    rows = (directory / "items.jsonl").read_text(encoding="utf-8").splitlines()
    assert [SideBySide.model_validate_json(row) for row in rows] == list(demo.items)


def test_json_has_the_agreed_shape(demo: Outcome) -> None:
    raw = demo.report.model_dump(mode="json")
    whole = {"arms", "pairs", "verdict", "dataset", "training", "model", "prompts", "environment"}
    arm = {
        "name",
        "n",
        "correct",
        "pass_rate",
        "ci_low",
        "ci_high",
        "latency_p50_s",
        "latency_p95_s",
        "cost_usd",
    }
    arm |= {
        "qa_exact_match",
        "qa_f1",
        "qa_bleu",
        "qa_rouge_l",
        "qa_chrf",
        "prompt_tokens",
        "completion_tokens",
    }
    pair = {"a", "b", "metric", "difference", "ci_low", "ci_high", "p", "p_adjusted", "test"}
    verdict = {"recommended", "confidence", "reason", "items_needed", "items_available"}
    assert whole <= set(raw)
    assert all(arm <= set(row) for row in raw["arms"])
    assert all(pair <= set(row) for row in raw["pairs"])
    assert verdict <= set(raw["verdict"])
    json.dumps(raw, allow_nan=False)


def test_page_fetches_nothing_and_runs_only_its_own_script(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.fetching == []
    assert checker.handlers == []
    assert len(checker.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(checker.scripts[0].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    assert "default-src &#39;none&#39;" in page
    assert checker.open == []
    assert not re.search(r"url\(|@import|https?://", page)


def test_hostile_answers_are_shown_as_text(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    shown = "".join(checker.text)
    assert "<script>alert(1)</script>" in shown, "the answer is readable"
    assert "<script>alert(1)" not in page, "and it is not markup"
    assert "\u202e" in HOSTILE
    assert "\u202e" not in page


def test_page_says_the_verdict_first_and_has_every_section(page: str) -> None:
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)
    assert headings == [
        "Deploy tuned+rag", "How often each arm is right", "Is the difference real?", "By kind of question",
        "What it is worth, by use", "What to do next", "Putting tuned+rag to work", "Training",
        "Answers side by side", "Prompts", "Data set and leaks", "Environment", "How to read this",
    ]  # fmt: skip
    assert page.count('<article class="card item"') == 220
    assert page.count("<polyline") == 2
    assert page.index("High confidence") < page.index("How often")


@pytest.mark.parametrize("scenario", ["open", "floor"])
def test_other_verdicts_render(scenario: str) -> None:
    found = demo_report(scenario, items=20)
    report, items = found.report, found.items
    Checker().feed(render_html(report, items))
    assert report.verdict.reason[:40] in render_markdown(report, items)


def test_free_questions_render_without_rates() -> None:
    found = demo_queries()
    report, items = found.report, found.items
    html, markdown = render_html(report, items), render_markdown(report, items)
    assert "<h1>Answers side by side</h1>" in html
    assert "How often each arm is right" not in html
    assert "How to implement LoRA?" in markdown
    assert "LoRA adds two small matrices" in markdown


def test_markdown_tables_hold(demo: Outcome) -> None:
    text = render_markdown(demo.report, demo.items)
    assert text.startswith("# Deploy tuned+rag\n")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_arm_names_cannot_break_a_page() -> None:
    found = demo_report("winner", items=12, renamed={"rag": '<b>x</b>|"\n\x00'})
    html, markdown = (render(found.report, found.items) for render in (render_html, render_markdown))
    Checker().feed(html)
    assert "<b>x" not in html
    assert "<b>x" not in markdown
    assert "\x00" not in html + markdown


def test_formats() -> None:
    assert signed_points(-0.0001) == "+0.0"
    assert signed_points(-0.031) == "−3.1"
    assert [seconds(v) for v in (None, 0.42, 3.14, 446.2, 7500)] == [
        "–",
        "0.42 s",
        "3.1 s",
        "7 min 26 s",
        "2 h 5 min",
    ]
    assert cell("a|b\n`c` < 1 <i>") == "a\\|b 'c' < 1 &lt;i>"
    assert visible("a\x1b[31m\u202eb\tc\n") == "a\ufffd[31m\ufffdb\tc\n"
    assert [plain(v) for v in (True, 12345, 0.00012345, None, [1, "a"], {"x_y": 2})] == [
        "yes", "12,345", "0.0001234", "–", "1, a", "x y 2",
    ]  # fmt: skip


def test_axes_are_round_and_hold_their_values() -> None:
    assert rate_axis(0.033).high == 0.05
    assert rate_axis(1.0).ticks == [0, 0.25, 0.5, 0.75, 1.0]
    axis = difference_axis([-0.113, 0.491, 0.05, -0.05])
    assert (axis.low, axis.high) == (-0.2, 0.6)
    assert axis.at(-0.2) == 0.0
    assert axis.at(9) == 100.0
    assert difference_axis([0.0]).low <= 0


def test_loss_chart_skips_what_is_no_number() -> None:
    points: list[dict[str, Any]] = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": float("nan")},
        {"step": 3, "loss": 1.0, "eval_loss": 1.5},
    ]
    chart = loss_chart(points)
    assert chart is not None
    assert [(line.name, line.first, line.last) for line in chart.lines] == [("loss", 2.0, 1.0)]
    assert loss_chart([{"step": 1, "learning_rate": 0.1}]) is None


@pytest.mark.parametrize(
    "odd", [{}, {"a": None}, {"a": [1, {"b": 2}]}, {"a": [{"b": {"c": {"d": 1}}}, {}]}, {"notes": "x"}]
)
def test_any_dataset_report_is_shown(odd: dict[str, Any]) -> None:
    build_dataset_view(odd)
    found = demo_report("floor", items=6)
    report, items = found.report, found.items
    render_html(report.model_copy(update={"dataset": odd}), items)


def test_page_counts_items_by_kind(demo: Outcome) -> None:
    kinds = build_page(demo.report, demo.items).kinds
    assert sum(kinds.values()) == 220
    assert kinds["ungraded"] == 0


def test_a_long_comparison_shows_what_tells_arms_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = demo_report("winner", items=30)
    report, items = found.report, found.items
    disagreeing = build_page(report, items).kinds["disagree"]
    monkeypatch.setattr("services.comparator.domain.page.MAX_CARDS", disagreeing)
    shown = build_page(report, items)
    assert {card.kind for card in shown.items} == {"disagree"}
    assert shown.more_items == 60 - disagreeing
    assert f"{disagreeing} of 60 items" in render_html(report, items)


def test_values_that_are_no_numbers_do_not_break_the_json(tmp_path: Path) -> None:
    found = demo_report("floor", items=6)
    training = {**found.report.training, "metrics": {"loss": float("nan")}}
    odd = replace(found, report=found.report.model_copy(update={"training": training}))
    directory = write_report(tmp_path, odd, Pages(render_html, render_markdown))
    raw = json.loads((directory / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert raw["training"]["metrics"]["loss"] is None


def test_every_number_of_the_json_stands_on_the_page(demo: Outcome, page: str) -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for arm in demo.report.arms:
        assert f"{100 * arm.pass_rate:.1f}%" in text
        assert f"{100 * arm.ci_low:.1f}% – {100 * arm.ci_high:.1f}%" in text
    for pair in demo.report.pairs:
        if pair.metric == "correct":
            assert signed_points(pair.difference) in text
    for one in demo.report.break_even:
        assert when(one) in text
    for use in demo.report.profiles:
        assert all(money(worth) in text for worth in use.utility_usd.values())
    assert all(finding.title in text for finding in demo.report.findings)
    for line in demo.report.dimensions:
        for value in line.arms:
            assert measured(value.value, line.unit) in text
    assert all(one.words in text for one in demo.report.upkeep)
    judge = demo.report.judge
    assert judge is not None
    assert judge.trusted
    for quality in judge.qualities:
        for preferred in quality.arms:
            assert f"{100 * preferred.preferred:.1f}%" in text


@pytest.mark.slow
def test_a_report_of_5000_items_is_small_enough_and_holds_every_item() -> None:
    large = demo_report("winner", items=2500)
    page = render_html(large.report, large.items)
    assert len(page.encode()) < 15_000_000
    assert build_page(large.report, large.items).more_items == 0
    assert page.count("<template") >= 1 or 'id="more"' in page


def test_the_table_of_items_holds_every_answer_and_no_formula(demo: Outcome) -> None:
    table = list(csv.DictReader(io.StringIO(items_csv(demo.items))))
    assert len(table) == len(demo.items) * len(demo.report.arms)
    right = sum(row["correct"] == "True" for row in table if row["arm"] == "tuned")
    assert right == next(arm.correct for arm in demo.report.arms if arm.name == "tuned")
    item = demo.items[0]
    odd = item.model_copy(update={"question": "=cmd|' /C calc'!A0"})
    assert next(csv.DictReader(io.StringIO(items_csv([odd]))))["question"] == "'=cmd|' /C calc'!A0"
