"""The gate as a test of a hypothesis: the trained adapter passes through an engine's noise, any other does not."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.models.fingerprint import Fingerprint, FingerprintRow, GateReport, judge

TOKENS = 400
SIZES = st.sampled_from([0.1, 0.3, 1.3])


def draw(dice: random.Random, size: float) -> list[float]:
    return [dice.gauss(0, 1.25 * size) for _ in range(TOKENS)]  # of mean distance `size`


def add(left: list[float], right: list[float]) -> list[float]:
    return [a + b for a, b in zip(left, right, strict=True)]


def through(dice: random.Random, size: float, noise: float, served: str) -> GateReport:
    """An adapter that moves answers by `size`, on an engine that is off by `noise`; served is what the engine holds."""
    base, move = draw(dice, 3.0), draw(dice, size)
    held: dict[str, Any] = {
        "trained": move,
        "another": draw(dice, size),
        "nothing": [0.0] * TOKENS,
        "earlier": [0.6 * value for value in move],
    }
    fingerprint = Fingerprint("float32", [FingerprintRow(list(range(TOKENS + 1)), base, add(base, move))])
    here = add(base, draw(dice, noise))
    there = add(add(base, held[served]), draw(dice, noise))
    return judge(fingerprint, [here], [there], noise=0.0)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), size=SIZES)
def test_the_trained_one_passes_through_the_noise_of_another_precision(seed: int, size: float) -> None:
    report = through(random.Random(seed), size, 0.04, "trained")
    assert report.passed, report


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), size=SIZES)
def test_another_of_the_same_strength_does_not(seed: int, size: float) -> None:
    report = through(random.Random(seed), size, 0.04, "another")
    assert report.verdict == "not_the_trained_one", report


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), size=SIZES)
def test_one_that_changes_nothing_does_not(seed: int, size: float) -> None:
    report = through(random.Random(seed), size, 0.001, "nothing")
    assert report.verdict == "changes_nothing", report


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_earlier_checkpoint_does_not(seed: int) -> None:
    assert through(random.Random(seed), 1.3, 0.04, "earlier").verdict == "not_the_trained_one"


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_noise_between_two_readings_widens_both_bounds(noise: float) -> None:
    base, move = [-1.0, -2.0, -3.0], 0.12
    fingerprint = Fingerprint("float32", [FingerprintRow([1, 2, 3, 4], base, [v + move for v in base])])
    report = judge(fingerprint, [base], [[v + move for v in base]], noise)
    assert report.margin == pytest.approx(max(0.2 * move, 3 * noise))
    assert report.tolerance == pytest.approx(max(0.005 + 3 * noise, 0.05 * move))
    assert report.passed == (noise == 0.0)
