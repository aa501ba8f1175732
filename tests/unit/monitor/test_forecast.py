"""When a training ends, and what is noticed about it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.findings import Curves, findings
from services.monitor.domain.forecast import remaining

RECORDED = Path(__file__).parent / "recorded_runs.json"
"""Seconds at which each step of four small trainings was done, validations and checkpoints between.

`times` are by the wall clock of two cores with a load of 16, `processor_times` by the processor's clock, which is what a
machine of their own would have shown.
"""


TRAININGS = Path(__file__).parent / "recorded_trainings.json"
"""Seconds by the wall clock at which the platform had written each step down, of two trainings of the 270M in `mt demo`."""


def made_up(rng: random.Random, steps: int, spread: float, alike: float) -> list[float]:
    """Times of a run whose log step lengths follow an AR(1) process."""
    at, level, times = 0.0, 0.0, []
    for _ in range(steps):
        level = alike * level + rng.gauss(0, spread * math.sqrt(1 - alike * alike))
        at += 0.3 * math.exp(level)
        times.append(at)
    return times


def readings(times: list[float], every: int = 1) -> tuple[list[bool], list[float]]:
    """After each step from the first tenth on: whether the true end was in the range, and how far the median was off."""
    held: list[bool] = []
    off: list[float] = []
    for done in range(max(1, len(times) // 10), len(times) - 1, every):
        points = [(step + 1, times[step]) for step in range(done + 1)]
        ahead = remaining(points, len(times), times[done])
        if ahead is not None:
            true = times[-1] - times[done]
            held.append(ahead.low <= true <= ahead.high)
            off.append(abs(ahead.median - true) / true)
    return held, off


@pytest.mark.parametrize(("clock", "off_at_most"), [("processor_times", 0.10), ("times", 0.30)])
def test_the_range_holds_on_recorded_runs(clock: str, off_at_most: float) -> None:
    held: list[bool] = []
    off: list[float] = []
    for run in json.loads(RECORDED.read_text(encoding="utf-8")):
        inside, error = readings(run[clock])
        held += inside
        off += error
    assert 0.70 <= sum(held) / len(held) <= 0.90
    assert median(off) < off_at_most


def test_the_range_holds_on_real_trainings_by_the_wall_clock() -> None:
    runs = [readings(run["times"]) for run in json.loads(TRAININGS.read_text(encoding="utf-8"))]
    held = [one for inside, _ in runs for one in inside]
    assert len(held) > 130
    assert 0.70 <= sum(held) / len(held) <= 0.90
    for _, off in runs:
        assert median(off) < 0.10


@pytest.mark.parametrize(("spread", "alike"), [(0.4, 0.0), (0.3, 0.9)])
def test_the_range_holds_on_made_up_runs(spread: float, alike: float) -> None:
    rng = random.Random(1)
    held = [one for _ in range(40) for one in readings(made_up(rng, 150, spread, alike), every=7)[0]]
    assert 0.70 <= sum(held) / len(held) <= 0.93


@given(st.floats(0.01, 100), st.integers(30, 300), st.integers(10, 29))
def test_steady_steps_are_foretold(length: float, total: int, done: int) -> None:
    ahead = remaining([(step, step * length) for step in range(1, done + 1)], total, done * length)
    assert ahead is not None
    assert ahead.low <= ahead.median <= ahead.high
    assert ahead.median == pytest.approx((total - done) * length)
    assert ahead.high < 1.1 * ahead.median


def test_time_that_passes_without_a_step_is_taken_off() -> None:
    points = [(step, float(step)) for step in range(1, 11)]
    at_once, later = remaining(points, 20, 10.0), remaining(points, 20, 14.0)
    assert at_once is not None
    assert later is not None
    assert at_once.median - later.median == pytest.approx(4)
    late = remaining(points, 20, 500.0)
    assert late is not None
    assert late.median > 0  # something is still to do


def test_nothing_is_said_too_early_or_at_the_end() -> None:
    assert remaining([], 100, 0.0) is None
    assert remaining([(1, 1.0), (2, 2.0)], 100, 2.0) is None
    done = remaining([(step, float(step)) for step in range(1, 11)], 10, 10.0)
    assert done is not None
    assert done.high == 0


def found(
    loss: list[float], valid: list[float] | None = None, total: int = 100, silent_s: float = 0.0
) -> list[str]:
    points = list(enumerate(loss, start=1))
    every = max(1, len(loss) // max(1, len(valid or [1])))
    validations = [(every * (index + 1), value) for index, value in enumerate(valid or [])]
    seen = Curves(points, validations, total)
    return [one.finding for one in findings(seen, [1.0] * 20, silent_s)]


def noisy(values: list[float], spread: float = 0.05) -> list[float]:
    rng = random.Random(3)
    return [value + rng.gauss(0, spread) for value in values]


FALLING = noisy([3 * math.exp(-step / 40) + 0.5 for step in range(100)])


def test_a_training_that_goes_well_is_left_alone() -> None:
    assert found(FALLING, [2.0, 1.5, 1.2, 1.1]) == []
    for length in range(1, 100):
        assert found(FALLING[:length], total=100) == []


def test_divergence() -> None:
    assert found(noisy([2 - step / 50 for step in range(50)] + [1 + step / 10 for step in range(30)])) == [
        "diverging"
    ]
    assert found(noisy([2.0] * 60, spread=0.8), total=1000) == []  # a rough sea is no rise


def test_plateau() -> None:
    flat = noisy([3 * math.exp(-step / 5) + 1 for step in range(40)] + [1.0] * 60, spread=0.01)
    assert found(flat) == ["plateau"]


def test_overfitting() -> None:
    assert found(FALLING, [2.0, 1.2, 1.1, 1.3, 1.5]) == ["overfitting"]
    assert found(FALLING, [2.0, 1.2, 1.1, 1.3, 1.05]) == []


def test_stall() -> None:
    assert found(FALLING, silent_s=59) == []
    assert found(FALLING, silent_s=61) == ["stalled"]


def test_sentences_say_numbers() -> None:
    seen = Curves(list(enumerate(FALLING)), [(20, 1.0), (40, 0.8), (60, 0.9), (80, 1.0)], 100)
    [over] = findings(seen, [], 0.0)
    assert over.message == (
        "The validation loss rises since step 40 (0.800 to 1.000) while the training loss falls."
    )
