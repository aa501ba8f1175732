"""Conditions on readings, and the life of an alert."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.conditions import Seen, evaluate
from services.monitor.domain.lifecycle import Standing, advance, sentence
from services.monitor.domain.rules import Rule, read_rules
from services.monitor.domain.samples import Reading, Samples

T0 = datetime(2026, 1, 1, tzinfo=UTC)
BASE = {"name": "Test", "severity": "page", "summary": "{gpu} at {value}", "metric": "m"}


def rule(**fields: Any) -> Rule:
    return read_rules([{**BASE, **fields}])[0]


def samples(rows: list[tuple[float, str, dict[str, str], float]], keep_s: float = 1e6) -> Samples:
    found = Samples({name: keep_s for _, name, _, _ in rows}, now=0.0)
    for at, name, labels, value in rows:
        found.add(at, [Reading(name, tuple(sorted(labels.items())), value)])
    return found


def test_a_threshold_keeps_labels_apart_and_forgets_old_readings() -> None:
    seen = samples([(0, "m", {"gpu": "0"}, 95), (100, "m", {"gpu": "1"}, 95), (100, "m", {"gpu": "2"}, 10)])
    found = evaluate(rule(kind="threshold", above=90, by=["gpu"]), seen, 110)
    assert found == {(("gpu", "1"),): Seen(95, True), (("gpu", "2"),): Seen(10, False)}


def test_a_share_of_two_gauges_with_a_second_limit_for_the_way_back() -> None:
    seen = samples([(0, "m", {}, 92), (0, "size", {}, 100)])
    found = evaluate(rule(kind="threshold", of="size", above=0.95, clear=0.9), seen, 0)
    assert found == {(): Seen(0.92, False, lingers=True)}


@pytest.mark.parametrize(("events", "known"), [(3, False), (4, True)])
def test_a_rate_says_nothing_of_few_events(events: int, known: bool) -> None:
    rows = [(0, "m", {"o": "failed"}, 0), (10, "m", {"o": "failed"}, events), (10, "m", {"o": "ok"}, 0)]
    found = evaluate(
        rule(kind="rate", match={"o": "failed"}, of="m", window_s=60, above=0.5, min_events=4),
        samples(rows),
        10,
    )
    assert found == ({(): Seen(1.0, True)} if known else {})


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30), st.sets(st.integers(1, 29)))
def test_a_counter_grows_by_its_steps_whatever_restarts(steps: list[int], restarts: set[int]) -> None:
    rows, value, growth = [], 0, 0
    for at, step in enumerate(steps):
        if at in restarts and step < value:
            value = 0  # the process began again and has counted `step` since
        value += step
        growth += step if at else 0
        rows.append((float(at), "m", {}, float(value)))
    assert samples(rows).increases("m", {}, 1000, float(len(steps)))[0][1] == growth


def test_absence_waits_for_its_window_after_the_start() -> None:
    absence = rule(kind="absence", window_s=60)
    empty = samples([])
    assert not evaluate(absence, empty, 59)[()].holds
    assert evaluate(absence, empty, 60)[()].holds
    seen = samples([(50, "m", {}, 1)])
    assert not evaluate(absence, seen, 100)[()].holds
    assert evaluate(absence, seen, 111)[()].holds


def burning(share: float, short_share: float) -> Samples:
    rows: list[tuple[float, str, dict[str, str], float]] = []
    good = bad = 0.0
    for minute in range(61):
        part = short_share if minute > 55 else share
        good, bad = good + 100 * (1 - part), bad + 100 * part
        rows += [(minute * 60, "m", {"status": "200"}, good), (minute * 60, "m", {"status": "500"}, bad)]
    return samples(rows)


@pytest.mark.parametrize(
    ("share", "short", "holds"), [(0.2, 0.2, True), (0.2, 0.0, False), (0.01, 0.5, False), (0.0, 0.0, False)]
)
def test_a_budget_burns_only_if_both_windows_do(share: float, short: float, holds: bool) -> None:
    burn = rule(
        kind="budget", bad={"status": "~5.."}, objective=0.99, min_events=50,
        windows=[{"long_s": 3600, "short_s": 240, "factor": 14.4}],
    )  # fmt: skip
    assert evaluate(burn, burning(share, short), 3600)[()].holds is holds


def test_a_latency_budget_counts_what_is_slower_than_its_bucket() -> None:
    rows: list[tuple[float, str, dict[str, str], float]] = []
    for minute in range(11):
        rows += [
            (minute * 60, "m_count", {}, 100.0 * minute),
            (minute * 60, "m_bucket", {"le": "1.0"}, 40.0 * minute),
        ]
    burn = rule(
        kind="budget", within_s=1, objective=0.9, windows=[{"long_s": 600, "short_s": 60, "factor": 2}]
    )
    assert evaluate(burn, samples(rows), 600)[()] == Seen(pytest.approx(0.6), True)


def live(steady: Rule, seen: list[Seen | None]) -> list[str]:
    """The states after each look, ten seconds apart."""
    standing: Standing | None = None
    states: list[str] = []
    for number, one in enumerate(seen):
        standing = advance(steady, standing, one, T0 + timedelta(seconds=10 * number))
        states.append(standing.state if standing else "-")
        if standing and standing.state == "resolved":
            standing = None
    return states


YES, NO, LINGERS = Seen(1, True), Seen(0, False), Seen(0.5, False, lingers=True)


def test_it_fires_after_its_time_and_resolves_after_another() -> None:
    held = rule(kind="threshold", above=0, for_s=20, resolve_after_s=20)
    assert live(held, [YES, YES, YES, NO, NO, NO]) == [
        "pending",
        "pending",
        "firing",
        "firing",
        "firing",
        "resolved",
    ]
    assert live(held, [YES, NO, YES, NO]) == ["pending", "-", "pending", "-"]
    assert live(held, [YES, YES, YES, NO, YES, NO, NO, NO])[-3:] == ["firing", "firing", "resolved"]
    assert live(held, [YES, YES, YES, None, None, None])[-1] == "resolved"


def test_a_value_between_the_limits_neither_begins_nor_ends_an_alert() -> None:
    held = rule(kind="threshold", above=0, resolve_after_s=0)
    assert live(held, [LINGERS, YES, LINGERS, LINGERS, NO]) == ["-", "firing", "firing", "firing", "resolved"]


def test_a_monitor_that_cannot_look_back_yet_ends_nothing() -> None:
    firing = Standing("firing", T0, fired_at=T0, value=3)
    after = advance(rule(kind="threshold", above=0), firing, None, T0 + timedelta(hours=1), certain=False)
    assert after == firing


@given(st.lists(st.sampled_from([YES, NO, LINGERS, None]), max_size=60))
def test_whatever_comes_an_alert_fires_only_after_it_held_all_the_time(seen: list[Seen | None]) -> None:
    states = live(rule(kind="threshold", above=0, for_s=30, resolve_after_s=20), seen)
    for number, state in enumerate(states):
        if state == "firing" and states[number - 1] in ("-", "pending", "resolved"):
            assert seen[number - 3 : number + 1] == [YES] * 4


def test_the_summary_is_filled_in() -> None:
    assert sentence(rule(kind="threshold", above=0), {"gpu": "3"}, 91.23456) == "3 at 91.23"
