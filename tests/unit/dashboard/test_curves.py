"""Curves keep every spike, however few points are left, and take a repeated step in place of the first."""

from __future__ import annotations

import math
from array import array
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.jobs import MetricPoint
from services.dashboard.curves import SHOWN, Curve, Curves, Thin, extremes
from services.dashboard.parts.run_chart import smoothed


def test_a_hundred_thousand_points_become_what_a_screen_shows() -> None:
    steps = array("d", range(100_000))
    values = array("d", (math.sin(i / 5000) for i in range(100_000)))
    values[54_321] = 99.0
    values[54_399] = -99.0
    thin = extremes(steps, values, SHOWN)
    assert len(thin.xs) <= SHOWN
    assert (thin.xs[0], thin.xs[-1]) == (0, 99_999)
    assert max(thin.ys) == 99.0
    assert min(thin.ys) == -99.0
    assert thin.xs == sorted(thin.xs)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=400),
    st.integers(4, 60),
)
def test_thinning_keeps_extremes_and_order(values: list[float], most: int) -> None:
    thin = extremes(array("d", range(len(values))), array("d", values), most)
    finite = [value for value in values if math.isfinite(value)]
    assert len(thin.xs) == len(thin.ys) <= max(most, 4)
    assert thin.xs == sorted(set(thin.xs))
    if finite:
        assert (min(thin.ys), max(thin.ys)) == (min(finite), max(finite))
    else:
        assert thin.ys == []


def test_a_step_that_comes_again_takes_the_place_of_the_first() -> None:
    curve = Curve()
    for step, value in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5)):
        curve.add(step, value)
    assert (list(curve.steps), list(curve.values)) == ([1, 2], [3.0, 2.5])
    assert curve.thin() == Thin([1, 2], [3.0, 2.5])


def test_a_validation_that_comes_later_is_added_to_its_step() -> None:
    curves, at = Curves(), datetime.now(UTC)
    curves.add([MetricPoint(step=1, created_at=at, values={"loss": 2.0})])
    curves.add([MetricPoint(step=1, created_at=at, values={"loss": 2.0, "eval_loss": 2.5})])
    assert list(curves.by_name["loss"].values) == [2.0]
    assert list(curves.by_name["eval_loss"].values) == [2.5]


def test_a_growing_curve_is_drawn_to_its_end() -> None:
    curve = Curve()
    for step in range(20_000):
        curve.add(step, float(step % 7))
        if step % 997 == 0 or step > 19_990:
            thin = curve.thin(200)
            assert thin.xs[-1] == step
            assert len(thin.xs) <= 200 + 24
            assert thin.xs == sorted(set(thin.xs))


def test_a_constant_stays_what_it_is_when_smoothed() -> None:
    assert all(math.isclose(y, 2.0) for y in smoothed(Thin([0, 1, 2], [2.0, 2.0, 2.0])).ys)
