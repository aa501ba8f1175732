"""Tests of no difference: parity with scipy, laws, and false positives of two equal arms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from libs.common.statistics.multiplicity import holm
from libs.common.statistics.paired import mcnemar_exact, sign_flip
from libs.common.statistics.power import (
    items_for_mean_difference,
    items_for_rate_difference,
    smallest_visible_rate_difference,
)

steady = settings(max_examples=50, deadline=None)
p_values = st.lists(st.floats(0, 1), max_size=12)
signed = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40)
real = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=9)


@steady
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_sign_test(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, abs=1e-12)
    assert mcnemar_exact(only_a, only_b) == mcnemar_exact(only_b, only_a)


def test_mcnemar_of_many_items_does_not_overflow() -> None:
    assert mcnemar_exact(3000, 3200) == pytest.approx(stats.binomtest(3000, 6200).pvalue, rel=1e-9)
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar_exact(-1, 2)


@steady
@given(signed)
def test_sign_flip_of_single_items_is_mcnemar(differences: list[float]) -> None:
    outcome = sign_flip(differences, range(len(differences)))
    assert outcome.method == "exact"
    assert outcome.p == pytest.approx(
        mcnemar_exact(differences.count(-1.0), differences.count(1.0)), abs=1e-9
    )


@steady
@given(real)
def test_enumeration_agrees_with_a_plain_loop(differences: list[float]) -> None:
    observed = abs(sum(differences)) - 1e-9
    patterns = itertools.product([-1, 1], repeat=len(differences))
    hits = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns
    ]
    assert sign_flip(differences, range(len(differences))).p == pytest.approx(np.mean(hits), abs=1e-9)


def test_simulation_agrees_with_scipy() -> None:
    differences = np.random.default_rng(5).normal(0.25, 1.0, 60)
    ours = sign_flip(differences, range(60), seed=1, draws=20_000)
    theirs = stats.permutation_test(
        (differences, np.zeros(60)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    )
    assert ours.method == "monte_carlo"
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.01)


def test_simulated_p_is_never_zero_and_depends_on_the_seed_alone() -> None:
    differences = np.linspace(0.5, 1.0, 40)
    first = sign_flip(differences, range(40), seed=7, draws=999)
    assert first.p == pytest.approx(1 / 1000)
    assert sign_flip(differences, range(40), seed=7, draws=999) == first


@steady
@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(0, 6)), min_size=1, max_size=40),
    st.randoms(),
)
def test_sign_flip_laws(rows: list[tuple[float, int]], shuffle: object) -> None:
    differences, groups = [row[0] for row in rows], [row[1] for row in rows]
    p = sign_flip(differences, groups).p
    assert 0 < p <= 1
    assert sign_flip([-d for d in differences], groups).p == pytest.approx(p)
    mixed = list(rows)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    assert sign_flip([row[0] for row in mixed], [row[1] for row in mixed]).p == pytest.approx(p)


def test_self_comparison_has_p_one() -> None:
    assert sign_flip([0.0] * 20, [i // 2 for i in range(20)]).p == 1.0
    assert mcnemar_exact(0, 0) == 1.0


def test_groups_that_go_together_weaken_the_evidence() -> None:
    differences = [1.0] * 12 + [0.0] * 12
    alone = sign_flip(differences, range(24)).p
    together = sign_flip(differences, [i // 3 for i in range(24)]).p
    assert alone == pytest.approx(2 / 2**12)
    assert together == pytest.approx(2 / 2**4)


def test_two_equal_arms_are_rarely_told_apart() -> None:
    """A/A: at most 5% false positives where items of a group go together; a test that ignores groups has more."""
    draw = np.random.default_rng(11)
    index = np.repeat(np.arange(40), 3)
    names, clustered, naive = index.tolist(), 0, 0
    for _ in range(600):
        chance = draw.beta(0.4, 0.6, size=(2, 40))
        a, b = (draw.random(120) < chance[arm][index] for arm in range(2))
        clustered += sign_flip(b.astype(float) - a, names).p < 0.05
        naive += mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
    assert clustered / 600 <= 0.07
    assert naive / 600 > 0.1


@steady
@given(p_values)
def test_holm_is_monotone_and_never_below_the_raw_value(values: list[float]) -> None:
    adjusted = holm(values)
    for (p, q), (p_other, q_other) in itertools.combinations(zip(values, adjusted, strict=True), 2):
        assert q <= q_other if p < p_other else q_other <= q
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))


def test_holm_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])


def test_items_needed_reach_the_power_that_they_promise() -> None:
    difference, discordance = 0.1, 0.3
    n = items_for_rate_difference(difference, discordance)
    draw = np.random.default_rng(4)
    cells = draw.multinomial(
        n, [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance], 2000
    )
    power = np.mean([mcnemar_exact(int(b), int(a)) < 0.05 for b, a, _ in cells])
    assert n == 234
    assert 0.75 < power < 0.85


def test_power_laws() -> None:
    assert items_for_rate_difference(0.05, 0.2) > items_for_rate_difference(0.1, 0.2)
    assert items_for_rate_difference(0.1, 0.2, design_effect=2) == pytest.approx(
        2 * items_for_rate_difference(0.1, 0.2), abs=1
    )
    assert items_for_rate_difference(0.1, 0.2, alpha=0.05 / 6) > items_for_rate_difference(0.1, 0.2)
    assert items_for_rate_difference(0.3, 0.1) == items_for_rate_difference(0.3, 0.3)
    assert items_for_mean_difference(0.1, 0.5) == 197
    with pytest.raises(ValueError, match="difference of zero"):
        items_for_rate_difference(0, 0.2)


@pytest.mark.parametrize(
    ("n", "discordance", "expected"), [(100, 0.1, 0.09), (164, 0.2, 0.1), (1000, 0.3, 0.05)]
)
def test_smallest_visible_difference_is_the_inverse(n: int, discordance: float, expected: float) -> None:
    found = smallest_visible_rate_difference(n, discordance)
    assert found == pytest.approx(expected, abs=0.01)
    assert items_for_rate_difference(found, discordance) <= n
