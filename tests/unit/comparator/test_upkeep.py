"""Upkeep: the rate of changes by an index's versions, what each costs, and how profiles come by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from libs.common.statistics.intervals import poisson_interval
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Prices, Profile, Upkeep
from model_training.contracts.evaluations import SuiteSpec
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.domain.arms import Arm
from services.comparator.domain.economics import Setup
from services.comparator.domain.upkeep import (
    MONTH_DAYS,
    IndexVersion,
    building_seconds,
    upkeep,
    with_renewal,
)
from services.comparator.service.gathering import Gatherer
from services.comparator.service.running import Plan, compare
from tests.unit.comparator.fake_platform import FakeContext, FakePlatform
from tests.unit.comparator.made_up import MODELS, answer

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
ARMS = [Arm(name, model) for name, model in MODELS.items()]
SETUP = Setup(training_s=3600.0, indexing_s={"library": 360.0})


def version(day: float, seconds: float = 36.0, *, embedded: int | None = 5, reused: int = 95) -> IndexVersion:
    return IndexVersion(BEGAN + timedelta(days=day), seconds, embedded, reused, 0)


FIRST = version(0, 360.0, embedded=100, reused=0)


def seen(versions: list[IndexVersion], days: float) -> Upkeep:
    return upkeep("library", versions, BEGAN + timedelta(days=days), ARMS, SETUP, Prices())


def test_changes_are_counted_by_day_and_cost_what_they_took() -> None:
    found = seen([FIRST, version(10), version(10.1), version(20), version(30)], 2 * MONTH_DAYS)
    assert (found.versions, found.changes, found.told) == (5, 3, True)
    assert found.per_month == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx((0.309, 4.384), abs=0.001)
    assert found.renewed == pytest.approx(0.1)
    assert set(found.usd) == {"rag", "tuned", "tuned+rag"}, "the base has nothing to keep up"
    months = {name: cost.month for name, cost in found.usd.items()}
    assert months == pytest.approx({"rag": 0.0015, "tuned": 0.15, "tuned+rag": 0.1515})
    assert found.usd["tuned"].low < 0.15 < found.usd["tuned"].high
    assert "1.5 changes a month [0.3, 4.4], each indexing 10% as much as the whole" in found.words


def test_a_rebuild_of_the_same_passages_is_no_change() -> None:
    found = seen([FIRST, *(version(day, embedded=0, reused=100) for day in range(1, 9))], 60)
    assert (found.changes, found.per_month, found.renewed) == (0, 0.0, None)
    assert found.high == pytest.approx(3.689 * MONTH_DAYS / 60, rel=0.001)


@pytest.mark.parametrize(
    ("versions", "days"), [([FIRST], 300), ([FIRST, version(3), version(4)], 5), ([FIRST, version(3)], 40)]
)
def test_too_little_is_said_and_not_reckoned_with(versions: list[IndexVersion], days: float) -> None:
    found = seen(versions, days)
    assert not found.told
    assert found.usd == {}
    assert "too little to say how often they will" in found.words
    resolved, source = with_renewal(Profile(name="use"), [found])
    assert (resolved.changes_per_month, resolved.indexing_renewed) == (1.0, 1.0)
    assert source == "1 changes a month, assumed"


def test_a_profile_s_own_rate_stays_and_a_missing_one_is_the_observed() -> None:
    found = seen([FIRST, version(10), version(20)], MONTH_DAYS)
    own, source = with_renewal(Profile(name="use", changes_per_month=7, indexing_renewed=0.5), [found])
    assert (own.changes_per_month, own.indexing_renewed) == (7, 0.5)
    assert source == "7 changes a month, as the use says"
    resolved, source = with_renewal(Profile(name="use"), [found])
    assert (resolved.changes_per_month, resolved.indexing_renewed) == pytest.approx((2.0, 0.1))
    assert source == "2 changes a month, as observed on library"


def test_what_the_whole_index_took_is_the_newest_build_from_nothing() -> None:
    assert building_seconds([FIRST, version(1)]) == 360.0
    assert building_seconds([FIRST, version(1, 400.0, embedded=120, reused=0), version(2)]) == 400.0
    assert building_seconds([version(1)]) == 36.0
    assert building_seconds([]) is None


def test_counts_have_exact_intervals() -> None:
    """Garwood's table: 0 gives [0, 3.689], 10 gives [4.795, 18.390]."""
    assert (poisson_interval(0).low, poisson_interval(0).high) == pytest.approx((0, 3.6889), abs=1e-4)
    assert (poisson_interval(10).low, poisson_interval(10).high) == pytest.approx((4.7954, 18.3904), abs=1e-4)
    with pytest.raises(ValueError, match="must not be negative"):
        poisson_interval(-1)


def test_the_report_says_what_keeping_up_costs() -> None:
    today = datetime.now(UTC)
    versions = [
        IndexVersion(today - timedelta(days=90 - 20 * i), 30.0 if i == 0 else 3.0, 5, 95 if i else 0, 0)
        for i in range(4)
    ]
    fake = FakePlatform(
        answers={MODELS[name]: [answer(i, i < right) for i in range(60)] for name, right in (("base", 3), ("rag", 40))},
        versions=versions,
    )  # fmt: skip
    asked = ComparisonCreate(
        arms=[ArmSpec(name=name, model=MODELS[name]) for name in ("base", "rag")],
        suites=[SuiteSpec(name="code_generation")],
        profiles=[Profile(name="own")],
    )
    found = compare(
        Plan(asked, {}), Gatherer(FakeContext(), fake, asked, poll_s=0.001), fake, machine=describe_machine
    )
    [one], [use] = found.report.upkeep, found.report.profiles
    assert (one.changes, one.renewed) == (3, pytest.approx(0.1))
    assert use.profile.changes_per_month == pytest.approx(one.per_month)
    assert use.renewal.endswith("as observed on library")
    for text in (render_html(found.report, found.items), render_markdown(found.report, found.items)):
        assert "What keeping up costs" in text
        assert "The passages of library changed on 3 days in 90 days" in text
