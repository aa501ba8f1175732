"""Trials of a search: every combination of a grid once, and draws that stay within their ranges and repeat by seed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.sweep_search import SweepFault, jobs_at_most, trials_of
from model_training.contracts.sweeps import MAX_JOBS, MAX_TRIALS, SweepCreate


def request(**more: Any) -> SweepCreate:
    return SweepCreate.model_validate({"model": "gemma-3-270m", "training_file": "file_1", **more})


names = st.sampled_from(["a", "b", "c", "d"])
lists = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)


@given(st.dictionaries(names, lists, min_size=1))
def test_a_grid_has_every_combination_once(search: dict[str, list[int]]) -> None:
    found = trials_of(request(search=search))
    assert len(found) == math.prod(len(values) for values in search.values())
    assert len({tuple(sorted(trial.items())) for trial in found}) == len(found)
    assert all(trial[name] in values for trial in found for name, values in search.items())
    assert all(trial.keys() == search.keys() for trial in found)


ranges = st.tuples(st.floats(1e-6, 1.0), st.floats(2.0, 1e3), st.booleans()).map(
    lambda found: {"low": found[0], "high": found[1], "log": found[2]}
)
whole = st.tuples(st.integers(1, 20), st.integers(40, 900), st.booleans()).map(
    lambda found: {"low": found[0], "high": found[1], "log": found[2], "integer": True}
)


@given(st.dictionaries(names, lists | ranges | whole, min_size=1), st.integers(0, 99), st.data())
def test_draws_differ_stay_within_and_repeat(search: dict[str, Any], seed: int, data: Any) -> None:
    size = math.prod(
        len(values) if isinstance(values, list) else 21 if values.get("integer") else 30
        for values in search.values()
    )
    count = data.draw(st.integers(1, min(size, 30)))
    found = trials_of(request(search=search, trials=count, seed=seed))
    assert len(found) == count
    assert all(trial not in found[:n] for n, trial in enumerate(found))
    for name, values in search.items():
        for trial in found:
            if isinstance(values, list):
                assert trial[name] in values
            else:
                assert values["low"] <= trial[name] <= values["high"]
                assert isinstance(trial[name], int) == bool(values.get("integer"))
    backwards = dict(reversed(search.items()))
    assert trials_of(request(search=backwards, trials=count, seed=seed)) == found


def test_log_draws_are_even_by_magnitude() -> None:
    search = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    drawn = [
        trial["lr"]
        for seed in range(10)
        for trial in trials_of(request(search=search, trials=100, seed=seed))
    ]
    assert 400 < sum(rate < 1e-3 for rate in drawn) < 600


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"search": {"a": [1, 2, 1]}}, "search.a"),
        ({"search": {"a": {"low": 1, "high": 2}}}, "search.a"),
        ({"search": {"a": {"low": 2, "high": 2}}, "trials": 2}, "search.a"),
        ({"search": {"a": {"low": 0, "high": 2, "log": True}}, "trials": 2}, "search.a"),
        ({"search": {"a": {"low": 0.5, "high": 2, "integer": True}}, "trials": 2}, "search.a"),
        ({"search": {"a": [1, 2]}, "trials": 3}, "trials"),
        ({"search": {"a": {"low": 1, "high": 2, "integer": True}}, "trials": 3}, "trials"),
        ({"search": {"a": list(range(20)), "b": list(range(20))}}, "search"),
        ({"search": {"a": list(range(100))}, "seeds": list(range(10)), "finalists": 50}, "finalists"),
        ({"search": {"a": [1]}, "seeds": [1, 1]}, "seeds"),
    ],
)
def test_a_search_that_cannot_be_run_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(SweepFault) as fault:
        trials_of(request(**more))
    assert fault.value.param == param


def test_true_and_one_are_two_values() -> None:
    assert len(trials_of(request(search={"a": [True, 1, "1"]}))) == 3


@given(st.integers(1, MAX_TRIALS), st.integers(1, 10), st.integers(1, MAX_TRIALS))
def test_jobs_are_bounded(trials: int, seeds: int, finalists: int) -> None:
    wanted = request(search={"a": list(range(trials))}, seeds=list(range(seeds)), finalists=finalists)
    if jobs_at_most(trials, seeds, finalists) <= MAX_JOBS:
        assert len(trials_of(wanted)) == trials
    else:
        with pytest.raises(SweepFault, match="at most 200"):
            trials_of(wanted)
