"""Break-even: the set holds the truth as often as it says, and "never" and "from the first question" are in it where due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.comparisons import Prices
from services.comparator.domain.arms import pair
from services.comparator.domain.break_even import break_even, break_evens
from services.comparator.domain.economics import Setup
from tests.unit.comparator.made_up import arm_with


def holds(fixed: float, savings: np.ndarray, groups: list[int], truth: float | None, seed: int) -> bool:
    found = break_even(("rag", "tuned"), fixed, savings, groups, seed=seed)
    if truth is None:
        return found.high is None
    return found.low is not None and found.low <= truth and (found.high is None or truth <= found.high)


@pytest.mark.parametrize("saving", [0.3, 0.05, 0.005])
@pytest.mark.parametrize(
    ("repetitions", "low", "high"),
    [(100, 0.88, 1.0), pytest.param(1000, 0.93, 0.975, marks=pytest.mark.slow)],
    ids=["100 repetitions", "1000 repetitions"],
)
def test_the_set_holds_the_truth_19_times_in_20(
    saving: float, repetitions: int, low: float, high: float
) -> None:
    """Skewed costs, questions of one function together; standard error of 1,000 repetitions: 0.7 points."""
    random = np.random.default_rng(7)
    groups = [i // 2 for i in range(100)]
    hits = 0
    for repetition in range(repetitions):
        shared = random.normal(0, 0.5, size=50)[groups]
        savings = saving + shared + (random.gamma(2, 1, size=100) - 2) / np.sqrt(2)
        hits += holds(10.0, savings, groups, 10.0 / saving, repetition)
    assert low <= hits / repetitions <= high


def test_an_arm_that_saves_pays_after_so_many_questions() -> None:
    found = break_even(("rag", "tuned"), 2.0, np.array([0.01, 0.02, 0.03] * 20), range(60))
    assert found.questions == pytest.approx(100)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 100 < found.high
    assert found.words.startswith(
        "tuned costs $2.00 more than rag before its first answer, and $20.00 less per 1,000"
    )
    assert "pays for itself after about 100 questions (95%:" in found.words


def test_an_arm_that_loses_never_pays() -> None:
    found = break_even(("rag", "tuned"), 2.0, np.array([-0.01, -0.02] * 30), range(60))
    assert (found.questions, found.low, found.high) == (None, None, None)
    assert found.words.endswith("it never pays for itself.")


def test_what_is_not_told_keeps_never_in_the_set() -> None:
    found = break_even(("rag", "tuned"), 2.0, np.array([-0.5, 0.52] * 30), range(60))
    assert found.questions == pytest.approx(200)
    assert found.low is not None
    assert found.high is None
    assert "or never; these items do not tell" in found.words


def test_an_arm_that_costs_nothing_up_front_pays_at_once() -> None:
    found = break_even(("base", "prompted"), 0.0, np.array([0.01, 0.02] * 30), range(60))
    assert (found.low, found.questions, found.high) == (0, 0, 0)
    assert "pays from the first question" in found.words


def test_one_group_bounds_nothing_and_can_be_written() -> None:
    found = break_even(("rag", "tuned"), 2.0, np.array([0.1, 0.2]), ["f", "f"])
    assert (found.saving_low, found.saving_high, found.high) == (None, None, None)
    assert type(found).model_validate_json(found.model_dump_json()) == found


@given(
    st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=3, max_size=12),
    st.floats(0, 100),
)
def test_the_ends_are_in_order(savings: list[float], fixed: float) -> None:
    found = break_even(("a", "b"), fixed, np.array(savings), range(len(savings)))
    if found.low is not None and found.high is not None:
        assert found.low <= found.high
    assert (found.low is not None) or found.high is None


def test_wrong_answers_count_where_they_have_a_price() -> None:
    right = [i % 2 == 0 for i in range(60)]
    arms = [arm_with("rag", [False] * 60), arm_with("tuned", right)]
    setup = Setup(training_s=3600.0)
    [free] = break_evens(pair(arms), setup, Prices(), 0)
    [priced] = break_evens(pair(arms), setup, Prices(wrong_answer_usd=1.0), 0)
    assert free.saving_usd == pytest.approx(0)
    assert priced.saving_usd == pytest.approx(0.5)
    assert priced.extra_fixed_usd == pytest.approx(0.1)
    assert (priced.a, priced.b) == ("rag", "tuned")
