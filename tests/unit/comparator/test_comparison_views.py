"""A finished comparison is looked into: items by filters and by place, and the same answers at other prices.

The made-up report states a training of 446.2 s and was reckoned with 446: figures that rest on it agree to a hundredth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from libs.common.errors import InvalidInput, NotFound
from model_training.contracts.comparison_views import WhatIf
from model_training.contracts.comparisons import BreakEven, Prices
from services.comparator.service.browsing import Wanted, item_at, matrix
from services.comparator.service.running import Outcome, Pages, write_report
from services.comparator.service.what_if import what_if
from tests.unit.comparator.demo_report import demo_queries, demo_report

BLANK = Pages(lambda report, items: "", lambda report, items: "")


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return demo_report("winner", items=40)


@pytest.fixture(scope="module")
def folder(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report"), outcome, BLANK)


def right(answers: Mapping[str, object], arm: str) -> bool:
    return bool(getattr(answers[arm], "correct"))  # noqa: B009


def test_every_item_is_found_once_in_the_order_of_the_report(folder: Path, outcome: Outcome) -> None:
    path = folder / "items.jsonl"
    pages = [matrix(path, Wanted(), offset, 30) for offset in range(0, 90, 30)]
    rows = [row for page in pages for row in page.rows]
    assert [row.item_id for row in rows] == [item.item_id for item in outcome.items]
    assert [row.position for row in rows] == list(range(len(outcome.items)))
    assert sum(pages[0].outcomes.values()) == pages[0].items == len(outcome.items)
    assert item_at(path, 57) == outcome.items[57]


def test_filters_keep_what_fits_and_nothing_else(folder: Path, outcome: Outcome) -> None:
    path = folder / "items.jsonl"
    won = matrix(path, Wanted(won="tuned", lost="rag", suite="qa_accuracy"), 0, 1000)
    expected = [
        item.item_id
        for item in outcome.items
        if item.suite == "qa_accuracy" and right(item.answers, "tuned") and not right(item.answers, "rag")
    ]
    assert expected
    assert [row.item_id for row in won.rows] == expected
    assert won.matched == len(expected)
    assert won.suites == {"code_generation": 40, "qa_accuracy": 40}
    found = matrix(path, Wanted(search="CASE 7)"), 0, 10)
    assert [row.item_id for row in found.rows] == ["code_generation-7"]
    disagree = matrix(path, Wanted(outcome="disagree"), 0, 1000)
    assert {row.outcome for row in disagree.rows} == {"disagree"}
    assert disagree.matched == disagree.outcomes["disagree"]


def test_an_unknown_arm_and_an_item_beyond_the_end_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="no arm 'gpt'"):
        matrix(folder / "items.jsonl", Wanted(won="gpt"), 0, 10)
    with pytest.raises(NotFound, match="no item 80"):
        item_at(folder / "items.jsonl", 80)


def test_the_report_s_own_prices_give_the_report_s_own_figures(folder: Path, outcome: Outcome) -> None:
    report = outcome.report
    prices = Prices.model_validate(report.rules["prices"])
    found = what_if(folder, WhatIf(prices=prices))
    assert [profile.recommended for profile in found.profiles] == [p.recommended for p in report.profiles]
    for one, other in zip(found.profiles, report.profiles, strict=True):
        assert one.utility_usd == pytest.approx(other.utility_usd, rel=1e-3)
        assert (one.lead_low, one.lead_high) == pytest.approx((other.lead_low, other.lead_high), rel=1e-3)
    for one, other in zip(found.break_even, report.break_even, strict=True):
        assert (one.a, one.b) == (other.a, other.b)
        assert one.saving_usd == pytest.approx(other.saving_usd)
        assert one.extra_fixed_usd == pytest.approx(other.extra_fixed_usd, rel=1e-2, abs=1e-9)
        for mine, theirs in zip(ends(one), ends(other), strict=True):
            assert (mine is None) == (theirs is None)
            assert theirs is None or mine == pytest.approx(theirs, rel=1e-2)


def ends(found: BreakEven) -> tuple[float | None, float | None, float | None]:
    return found.questions, found.low, found.high


def test_a_dearer_machine_and_dearer_mistakes_move_the_figures(folder: Path) -> None:
    cheap = what_if(folder, WhatIf(prices=Prices(machine_hour_usd=0.1)))
    dear = what_if(folder, WhatIf(prices=Prices(machine_hour_usd=1.0, wrong_answer_usd=2.0)))
    for arm, cost in cheap.cost_usd.items():
        assert dear.cost_usd[arm] == pytest.approx(10 * cost)
        assert dear.fixed_cost_usd[arm] == pytest.approx(10 * cheap.fixed_cost_usd[arm])
    pair = next(i for i, found in enumerate(cheap.break_even) if (found.a, found.b) == ("base", "tuned+rag"))
    assert dear.break_even[pair].saving_usd > 0 > cheap.break_even[pair].saving_usd


def test_free_questions_alone_have_items_and_no_economics(tmp_path: Path) -> None:
    folder = write_report(tmp_path, demo_queries(), BLANK)
    found = matrix(folder / "items.jsonl", Wanted(), 0, 10)
    assert [row.outcome for row in found.rows] == ["ungraded", "ungraded"]
    assert what_if(folder, WhatIf()).break_even == []
