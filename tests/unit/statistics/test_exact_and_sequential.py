"""Exact, Bayesian, clustered, BCa and sequential statistics, against scipy, statsmodels, exact fractions and simulation."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from libs.common.statistics.bootstrap import bca_mean, bootstrap_mean
from libs.common.statistics.clusters import clustered_standard_error
from libs.common.statistics.intervals import (
    Interval,
    beta_binomial_interval,
    clopper_pearson_interval,
    wilson_interval,
)
from libs.common.statistics.multiplicity import holm
from libs.common.statistics.paired import mcnemar_exact
from libs.common.statistics.repeats import over_questions, pass_at_k, pass_power_k
from libs.common.statistics.sequential import SequentialComparison, paired_e_value

steady = settings(max_examples=50, deadline=None)
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
answers = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@steady
@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_rate_intervals_agree_with_scipy_and_statsmodels(count: tuple[int, int], level: float) -> None:
    successes, n = count
    exact = clopper_pearson_interval(successes, n, level)
    theirs = stats.binomtest(successes, n).proportion_ci(level, method="exact")
    assert (exact.low, exact.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert (exact.low, exact.high) == pytest.approx(
        proportion_confint(successes, n, 1 - level, method="beta"), abs=1e-9
    )
    wilson = wilson_interval(successes, n, level)
    assert (wilson.low, wilson.high) == pytest.approx(
        proportion_confint(successes, n, 1 - level, method="wilson"), abs=1e-9
    )
    bayes = beta_binomial_interval(successes, n, level)
    expected = stats.beta(1 + successes, 1 + n - successes).interval(level)
    assert (bayes.low, bayes.high) == pytest.approx(expected, abs=1e-9)
    assert exact.low <= wilson.high
    assert bayes.contains((successes + 1) / (n + 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_tests_agree_with_statsmodels(only_a: int, only_b: int, values: list[float]) -> None:
    if only_a + only_b:
        theirs = mcnemar([[5, only_a], [only_b, 7]], exact=True).pvalue
        assert mcnemar_exact(only_a, only_b) == pytest.approx(min(1.0, theirs), abs=1e-9)
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]), abs=1e-9)


def test_clustered_errors_agree_with_statsmodels() -> None:
    draw = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), draw.integers(1, 6, 40))
    values = draw.normal(size=groups.size) + draw.normal(size=40)[groups]
    fit = sm.OLS(values, np.ones_like(values)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    corrected = float(fit.bse[0]) * np.sqrt(40 / 39)
    assert clustered_standard_error(values, groups.tolist()) == pytest.approx(corrected, rel=1e-9)
    single = clustered_standard_error(values, range(values.size))
    assert single == pytest.approx(stats.sem(values), rel=1e-9)
    assert clustered_standard_error(values, [0] * values.size) == np.inf


@pytest.mark.parametrize("bad", [(-1, 10, 0.95), (11, 10, 0.95), (1, 10, 1.0)])
def test_intervals_refuse_nonsense(bad: tuple[int, int, float]) -> None:
    for interval in (clopper_pearson_interval, beta_binomial_interval):
        with pytest.raises(ValueError):
            interval(*bad)


def test_bca_agrees_with_scipy_on_skewed_values() -> None:
    values = np.random.default_rng(4).lognormal(size=80)
    ours = bca_mean(values, seed=1, draws=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(3)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert bca_mean([0.5] * 4) == Interval(0.5, 0.5)
    assert ours.high - float(values.mean()) > float(values.mean()) - ours.low, "skewed, as the values are"


@steady
@given(answers)
def test_pass_at_k_is_what_counting_gives(case: tuple[int, int, int]) -> None:
    n, correct, k = case
    right = [True] * correct + [False] * (n - correct)
    draws = list(itertools.combinations(right, k))
    assert pass_at_k(n, correct, k) == float(Fraction(sum(map(any, draws)), len(draws)))
    assert pass_power_k(n, correct, k) == float(Fraction(sum(map(all, draws)), len(draws)))


def test_pass_at_k_over_questions() -> None:
    found = over_questions([(4, 2), (4, 0), (4, 4), (4, 1)], 2)
    assert found.value == pytest.approx(np.mean([5 / 6, 0, 1, 1 / 2]))
    assert 0 <= found.interval.low < found.value < found.interval.high <= 1
    nothing = over_questions([(4, 0)] * 164, 1)
    assert nothing.value == 0
    assert nothing.interval == wilson_interval(0, 164)
    with pytest.raises(ValueError, match="k must lie"):
        pass_at_k(3, 1, 4)


def test_e_values_are_fair_bets() -> None:
    """Their mean under "no difference" is exactly 1 after any number of items."""
    for n in (1, 5, 20):
        mean = sum(float(stats.binom(n, 0.5).pmf(w)) * paired_e_value(w, n - w) for w in range(n + 1))
        assert mean == pytest.approx(1.0, abs=1e-9)


def test_looking_after_every_item_alarms_rarely_and_finds_what_is_there() -> None:
    draw = np.random.default_rng(8)
    alarms = found = 0
    for _ in range(200):
        same, better = SequentialComparison(), SequentialComparison()
        for a, b, c in draw.random((200, 3)):
            same.add(a < 0.5, b < 0.5)
            better.add(a < 0.4, c < 0.6)
        alarms += same.look().decided
        found += better.look().decided
    assert alarms / 200 <= 0.05 + 0.045, "at most 5%, Monte Carlo error 1.5%"
    assert found / 200 > 0.7
    assert same.looks[0].items == 200
    assert same.p == pytest.approx(min(1.0, 1 / same.largest))


def coverage(n: int, rates: int, draws: int, seed: int) -> dict[str, float]:
    """Share of 95% intervals that hold the truth, averaged over rates drawn evenly from (0.02, 0.98)."""
    draw = np.random.default_rng(seed)
    held = dict.fromkeys(("wilson", "clopper_pearson", "beta_binomial"), 0.0)
    total = 0
    for rate in draw.uniform(0.02, 0.98, rates):
        for successes in draw.binomial(n, rate, draws).tolist():
            held["wilson"] += wilson_interval(successes, n).contains(rate)
            held["clopper_pearson"] += clopper_pearson_interval(successes, n).contains(rate)
            held["beta_binomial"] += beta_binomial_interval(successes, n).contains(rate)
            total += 1
    return {name: count / total for name, count in held.items()}


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 164])
def test_coverage_is_within_one_point(n: int) -> None:
    """Over 6,000 intervals the Monte Carlo error is 0.3 points."""
    found = coverage(n, rates=600, draws=10, seed=n)
    assert abs(found["wilson"] - 0.95) <= 0.01, found
    assert found["clopper_pearson"] >= 0.95, found
    assert abs(found["beta_binomial"] - 0.95) <= 0.01, found


def bootstrap_coverage(n: int, rates: int, seed: int) -> float:
    """The same for bootstraps of scores between 0 and 1, as F1 gives them: some zeros, some ones, the others between."""
    draw = np.random.default_rng(seed)
    held = 0
    for turn, rate in enumerate(draw.uniform(0.1, 0.9, rates)):
        values = draw.beta(2 * rate, 2 * (1 - rate), n)
        held += bootstrap_mean(values, seed=turn, draws=1000).contains(float(rate))
    return held / rates


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 164])
def test_bootstrap_coverage_is_within_one_point(n: int) -> None:
    """Over 6,000 intervals the Monte Carlo error is 0.3 points."""
    assert abs(bootstrap_coverage(n, 6000, seed=n) - 0.95) <= 0.01


def test_coverage_in_short() -> None:
    assert 0.91 <= bootstrap_coverage(100, 300, seed=1) <= 0.98
    found = coverage(100, rates=40, draws=8, seed=1)
    assert found["clopper_pearson"] >= 0.94
    assert 0.92 <= found["wilson"] <= 0.98
