"""Bounds against published tables, and the error rate and power of looking several times, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from libs.common.statistics.group_sequential import bounds, nominal_level, sequential_p, spent
from libs.common.statistics.quantiles import normal_cdf

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("alpha", "fractions", "published"),
    [
        # As the program of Reboussin, DeMets, Kim and Lan gives them (Controlled Clinical Trials 21, 2000).
        (0.05, FIVE, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (0.05, (0.5, 1.0), [2.9626, 1.9686]),
        (0.05, (1.0,), [1.9600]),
    ],
)
def test_bounds_are_those_that_were_published(
    alpha: float, fractions: tuple[float, ...], published: list[float]
) -> None:
    assert bounds(alpha, fractions) == pytest.approx(published, abs=0.001)


def test_all_of_alpha_is_spent_at_the_end_and_next_to_nothing_at_first() -> None:
    assert spent(0.05, 1.0) == pytest.approx(0.05)
    assert spent(0.05, 0.2) < 1e-5
    assert [spent(0.05, t) for t in FIVE] == sorted(spent(0.05, t) for t in FIVE)


def test_one_look_is_the_plain_test() -> None:
    for p in (0.9, 0.05, 0.001):
        assert sequential_p([p], [1.0]) == pytest.approx(p, rel=0.01)


def test_a_p_value_that_just_reaches_the_bound_of_a_level_is_that_level() -> None:
    for look, bound in enumerate(bounds(0.01, FIVE), start=1):
        seen = [1.0] * (look - 1) + [nominal_level(bound)]
        assert sequential_p(seen, FIVE[:look]) == pytest.approx(0.01, rel=0.01)


def test_what_was_called_real_stays_so() -> None:
    early = sequential_p([1e-9], [0.5])
    assert early < 0.001
    assert sequential_p([1e-9, 0.2], [0.5, 1.0]) == pytest.approx(early, rel=0.01)


def test_looking_often_does_not_raise_the_error_and_costs_little_power() -> None:
    """20,000 streams: standard error at 5% is 0.15 points. Naive testing at each look errs in 14% of them."""
    random = np.random.default_rng(0)
    steps = random.normal(size=(20_000, len(FIVE)))
    for drift, low, high in ((0.0, 0.045, 0.055), (2.8, 0.78, 0.81)):  # 2.8: 80% power with one look
        sums = np.cumsum(steps * np.sqrt(0.2) + drift * 0.2, axis=1)
        z = np.abs(sums / np.sqrt(np.array(FIVE)))
        crossed = (z >= np.array(bounds(0.05, FIVE))).any(axis=1).mean()
        assert low < crossed < high
        by_p = [
            sequential_p([2 * (1 - normal_cdf(one)) for one in row], FIVE) <= 0.05 for row in z[:400].tolist()
        ]
        assert by_p == (z[:400] >= np.array(bounds(0.05, FIVE))).any(axis=1).tolist()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.0, 1.0), (0.5, 1.1)])
def test_fractions_that_do_not_rise_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fractions must rise"):
        bounds(0.05, fractions)
    with pytest.raises(ValueError, match="need as many p-values"):
        sequential_p([0.5], [0.5, 1.0])
