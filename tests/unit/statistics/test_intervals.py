"""Intervals against scipy and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from libs.common.statistics.bootstrap import bootstrap_difference, bootstrap_mean
from libs.common.statistics.clusters import cluster_sums, design_effect
from libs.common.statistics.intervals import Interval, clustered_wilson_interval, wilson_interval
from libs.common.statistics.quantiles import latencies
from libs.common.statistics.rates import paired_rate_interval

steady = settings(max_examples=50, deadline=None)
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@steady
@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(count: tuple[int, int], level: float) -> None:
    successes, n = count
    ours = wilson_interval(successes, n, level)
    theirs = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)


@steady
@given(counts)
def test_wilson_is_symmetric_and_holds_the_rate(count: tuple[int, int]) -> None:
    successes, n = count
    ours, mirrored = wilson_interval(successes, n), wilson_interval(n - successes, n)
    assert ours.contains(successes / n)
    assert ours.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilson_keeps_a_width_at_the_ends() -> None:
    assert wilson_interval(0, 99).low == 0.0
    assert wilson_interval(0, 99).high == pytest.approx(0.0373, abs=1e-4)
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "level"), [(-1, 10, 0.95), (11, 10, 0.95), (1, 10, 1.0), (1, 10, 0)]
)
def test_wilson_refuses_nonsense(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, n, level)


@steady
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_single_items_need_no_widening(correct: list[bool]) -> None:
    clustered = clustered_wilson_interval(correct, range(len(correct)))
    assert clustered == wilson_interval(sum(correct), len(correct))


@steady
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60))
def test_groups_never_narrow_an_interval(rows: list[tuple[bool, int]]) -> None:
    correct, groups = [row[0] for row in rows], [row[1] for row in rows]
    clustered, plain = clustered_wilson_interval(correct, groups), wilson_interval(sum(correct), len(correct))
    assert clustered.low <= plain.low + 1e-12
    assert clustered.high >= plain.high - 1e-12


def test_design_effect_of_groups_that_agree_is_their_size() -> None:
    values = np.repeat(np.array([0.0, 1.0] * 50), 4)
    groups = np.repeat(np.arange(100), 4).tolist()
    assert design_effect(values, groups) == pytest.approx(4.0, rel=0.02)
    assert design_effect(np.zeros(8), [0, 0, 1, 1, 2, 2, 3, 3]) == 2.0
    assert design_effect(np.zeros(8), range(8)) == 1.0


def test_cluster_sums_keep_the_order_of_appearance() -> None:
    found = cluster_sums(np.array([1.0, 2.0, 3.0]), ["b", "a", "b"])
    assert found.sums.tolist() == [4.0, 2.0]
    assert found.sizes.tolist() == [2.0, 1.0]
    with pytest.raises(ValueError, match="3 values need as many groups, got 2"):
        cluster_sums(np.zeros(3), ["a", "b"])


def test_paired_interval_of_the_published_example() -> None:
    """Newcombe (1998): 36 both, 12 and 2 only one, none neither; method 10 gives 0.0569 to 0.3404."""
    more = [True] * 48 + [False] * 2
    less = [True] * 36 + [False] * 12 + [True] * 2
    found = paired_rate_interval(less, more, range(50))
    assert found.low == pytest.approx(0.0569, abs=5e-5)
    assert found.high == pytest.approx(0.3404, abs=5e-5)


@steady
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
def test_paired_interval_mirrors_when_arms_swap(rows: list[tuple[bool, bool, int]]) -> None:
    a, b, groups = ([row[i] for row in rows] for i in range(3))
    forth, back = paired_rate_interval(a, b, groups), paired_rate_interval(b, a, groups)
    assert forth.low == pytest.approx(-back.high, abs=1e-9)
    assert forth.contains(np.mean(b) - np.mean(a))


def test_bootstrap_agrees_with_the_t_interval_on_normal_data() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 80)
    ours = bootstrap_mean(values, seed=2, draws=20_000)
    theirs = stats.t.interval(0.95, 79, values.mean(), stats.sem(values))
    assert ours.low == pytest.approx(theirs[0], abs=0.02)
    assert ours.high == pytest.approx(theirs[1], abs=0.02)


def test_bootstrap_is_reproducible_and_widens_with_groups() -> None:
    draw = np.random.default_rng(3)
    values = np.repeat(draw.normal(size=30), 4)
    groups = np.repeat(np.arange(30), 4).tolist()
    alone, together = bootstrap_mean(values, seed=1), bootstrap_mean(values, groups, seed=1)
    assert bootstrap_mean(values, groups, seed=1) == together
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_bootstrap_edges() -> None:
    assert bootstrap_difference([0.5] * 9, [0.5] * 9) == Interval(0.0, 0.0)
    assert bootstrap_mean([0.1, 0.9], ["one", "one"]) == Interval(-math.inf, math.inf)
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_mean([])


def test_latencies() -> None:
    found = latencies([0.1 * i for i in range(1, 101)])
    assert found.p50 == pytest.approx(5.05)
    assert found.p95 == pytest.approx(9.505)
    assert latencies([]).p95 == 0.0


@pytest.mark.parametrize(("groups", "size", "rate"), [(30, 1, 0.3), (100, 1, 0.1), (60, 3, 0.3)])
def test_coverage_in_simulation(groups: int, size: int, rate: float) -> None:
    """Near 95% of 95% intervals hold the truth, with independent items and with items that go together."""
    draw = np.random.default_rng(groups)
    index = np.repeat(np.arange(groups), size)
    names, repetitions, spread = index.tolist(), 400, 2.0
    held = held_difference = 0
    for _ in range(repetitions):
        chance = (
            draw.beta(rate * spread, (1 - rate) * spread, size=(2, groups))
            if size > 1
            else np.full((2, groups), rate)
        )
        a, b = (draw.random(index.size) < chance[arm][index] for arm in range(2))
        held += clustered_wilson_interval(a.tolist(), names).contains(rate)
        held_difference += paired_rate_interval(a.tolist(), b.tolist(), names).contains(0.0)
    assert 0.92 <= held / repetitions <= 0.985
    assert 0.92 <= held_difference / repetitions <= 0.99
