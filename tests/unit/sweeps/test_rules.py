"""Which trials are stopped and which is best: the laws that hold for any losses, and a few cases worked out by hand."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.jobs.sweep_rules import (
    Point,
    Result,
    Standing,
    finalists,
    lead,
    losers,
    loss_at,
    rungs,
    standings,
)
from model_training.contracts.sweeps import EarlyStop, RunState

HALVING = EarlyStop()


def curve(*losses: float) -> list[Point]:
    """Evaluations at 25%, 50%, 75%, 100%."""
    return [Point(0.25 * n, loss) for n, loss in enumerate(losses, 1)]


def test_rungs_rise_by_the_reduction_and_end_before_the_end() -> None:
    assert rungs(HALVING) == [0.25, 0.5]
    assert rungs(EarlyStop(warmup=0.1, reduction=3)) == pytest.approx([0.1, 0.3, 0.9])
    assert rungs(EarlyStop(rule="none")) == []


def test_a_loss_at_a_rung_is_the_lowest_up_to_the_first_evaluation_there() -> None:
    points = [Point(0.2, 1.0), Point(0.4, 2.0), Point(0.6, 0.5)]
    assert [loss_at(points, rung) for rung in (0.1, 0.3, 0.5, 0.7)] == [1.0, 1.0, 0.5, None]


def test_the_worse_half_is_stopped_where_it_stands() -> None:
    curves = {1: curve(1.0, 0.9), 2: curve(2.0), 3: curve(3.0), 4: curve(1.5, 1.4)}
    found = losers(curves, {1, 2, 3, 4}, HALVING)
    # 2 and 3 are the worse half at 25%; 4 has gone on to 50%, where it is the worse half of two.
    assert sorted(found) == [2, 3, 4]
    assert str(found[3]) == (
        "eval_loss 3.0000 at 25% of its training is not among the best 2 of 4 trials there (up to 1.5000)"
    )
    assert losers(curves, {1, 2, 3, 4}, EarlyStop(rule="none")) == {}
    assert losers({1: curve(9.0)}, {1}, HALVING) == {}  # nobody to compare with
    assert losers({1: [Point(0.2, 9.0)], 2: [Point(0.2, 1.0)]}, {1, 2}, HALVING) == {}  # warming up


losses = st.lists(st.floats(0, 10), max_size=4)
curves_of = st.dictionaries(st.integers(1, 12), losses.map(lambda found: curve(*found)), min_size=1)
rules = st.builds(EarlyStop, warmup=st.floats(0.05, 0.95), reduction=st.integers(2, 10))


@given(curves_of, rules, st.data())
def test_who_is_best_at_the_last_rung_goes_on_and_order_does_not_count(
    curves: dict[int, list[Point]], rule: EarlyStop, data: st.DataObject
) -> None:
    running = data.draw(st.sets(st.sampled_from(sorted(curves))))
    found = losers(curves, running, rule)
    assert found.keys() <= running
    at_last = [
        {n: loss for n, points in curves.items() if (loss := loss_at(points, rung)) is not None}
        for rung in rungs(rule)
    ]
    reached = [losses for losses in at_last if losses]
    if reached:
        assert min(reached[-1], key=lambda n: reached[-1][n]) not in found
    shuffled = dict(data.draw(st.permutations(list(curves.items()))))
    assert losers(shuffled, running, rule) == found


@given(curves_of, rules)
def test_at_least_the_best_share_of_those_at_a_rung_goes_on(
    curves: dict[int, list[Point]], rule: EarlyStop
) -> None:
    for verdict in losers(curves, set(curves), rule).values():
        assert verdict.loss > verdict.limit
        assert verdict.kept * rule.reduction >= verdict.compared


DONE, STOPPED, RUNNING, FAILED = RunState.SUCCEEDED, RunState.STOPPED, RunState.RUNNING, RunState.FAILED


def test_finalists_come_first_by_their_mean() -> None:
    runs = [
        *[Result(1, seed, DONE, loss) for seed, loss in enumerate([1.0, 1.4, 1.2])],
        *[Result(2, seed, DONE, loss) for seed, loss in enumerate([1.1, 1.1, 1.1])],
        Result(3, 0, DONE, 1.15),
        Result(4, 0, STOPPED, 0.5),
        Result(5, 0, FAILED),
    ]
    found = standings(runs)
    assert [(s.trial, s.rank) for s in found] == [(2, 1), (1, 2), (3, 3), (4, 4), (5, None)]
    assert found[1].loss == pytest.approx(1.2)
    assert found[1].std == pytest.approx(statistics.stdev([1.0, 1.4, 1.2]))
    assert lead(found[0], found[1]) == (pytest.approx(0.1), False)  # the spread of trial 1 is 0.2
    assert lead(found[0], None) == (None, None)


def test_finalists_have_run_to_their_end() -> None:
    runs = [
        Result(1, 0, STOPPED, 0.1),
        Result(2, 0, DONE, 2.0),
        Result(3, 0, DONE, 1.0),
        Result(4, 0, FAILED, 0.2),
    ]
    assert finalists(runs, 2) == [3, 2]
    assert finalists(runs, 1) == [3]
    assert finalists(runs[:1], 2) == []


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(RunState), st.floats(0, 9) | st.none()), min_size=1)
)
def test_ranking_holds_every_trial_once_and_ranks_those_with_a_loss(
    found: list[tuple[int, RunState, float | None]],
) -> None:
    runs = [Result(trial, seed, state, loss) for seed, (trial, state, loss) in enumerate(found)]
    ranked: list[Standing] = standings(runs)
    assert sorted(s.trial for s in ranked) == sorted({run.trial for run in runs})
    assert all((s.rank is None) == (s.loss is None) for s in ranked)
    ranks = [s.rank for s in ranked if s.rank is not None]
    assert ranks == sorted(set(ranks))
