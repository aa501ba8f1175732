"""Which trials of a sweep to stop, and which is best. Pure: knows no database and no clock.

Stopping is successive halving in its asynchronous form: Li et al., "A System for Massively Parallel Hyperparameter Tuning"
(MLSys 2020, algorithm ASHA), here with trials that run on and are stopped, not paused and promoted. Two things differ.
Rungs are shares of a trial's own training instead of step counts, because batch size and epochs may be what is searched.
And a trial is compared at the last rung that it has reached with all that have reached it so far, also those that came
later; so what is decided depends on the losses alone, not on who was asked when, and a driver that died in between
decides the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from model_training.contracts.sweeps import EarlyStop, RunState


@dataclass(frozen=True)
class Point:
    """One evaluation of a trial: the share of its training that was done, 0 to 1, and its loss."""

    done: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """Why a trial is to be stopped: its loss at a rung, and the highest loss with which one goes on from there."""

    rung: float
    loss: float
    limit: float
    kept: int
    compared: int

    def __str__(self) -> str:
        return (
            f"eval_loss {self.loss:.4f} at {self.rung:.0%} of its training is not among the best {self.kept} of "
            f"{self.compared} trials there (up to {self.limit:.4f})"
        )


def rungs(rule: EarlyStop) -> list[float]:
    """Shares of the training at which trials are compared, rising."""
    if rule.rule == "none":
        return []
    found: list[float] = []
    while (rung := rule.warmup * rule.reduction ** len(found)) < 1:
        found.append(rung)
    return found


def loss_at(points: Sequence[Point], rung: float) -> float | None:
    """The lowest loss up to the first evaluation at or after a rung; None if none came so far.

    The lowest and not the newest, because the best checkpoint is what a training job keeps.
    """
    best = math.inf
    for point in points:
        best = min(best, point.loss)
        if point.done >= rung:
            return best
    return None


def losers(
    curves: Mapping[int, Sequence[Point]], running: Collection[int], rule: EarlyStop
) -> dict[int, Verdict]:
    """The running trials to stop, by number.

    Args:
        curves: evaluations in order, of every trial that runs, has ended or was stopped. Failed ones do not count.
        running: the trials that may be stopped.
    """
    found: dict[int, Verdict] = {}
    for rung in rungs(rule):
        losses = {
            trial: loss for trial, points in curves.items() if (loss := loss_at(points, rung)) is not None
        }
        if not losses:
            break
        kept = math.ceil(len(losses) / rule.reduction)
        limit = sorted(losses.values())[kept - 1]
        for trial in losses.keys() & set(running):
            found.pop(trial, None)  # whoever has gone on is judged where it stands now
            if losses[trial] > limit:
                found[trial] = Verdict(rung, losses[trial], limit, kept, len(losses))
    return found


@dataclass(frozen=True)
class Result:
    """One run of a trial. `loss` is its lowest so far."""

    trial: int
    seed: int
    state: RunState
    loss: float | None = None


@dataclass(frozen=True)
class Standing:
    """Where a trial stands. `losses` are of the seeds that ran to their end, `loss` is their mean or the lowest so far."""

    trial: int
    state: RunState
    finalist: bool
    losses: Mapping[int, float]
    loss: float | None
    rank: int | None = None

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds; None of fewer than two."""
        return statistics.stdev(self.losses.values()) if len(self.losses) > 1 else None


_ORDER = (RunState.SUCCEEDED, RunState.RUNNING, RunState.STOPPED)


def standings(runs: Sequence[Result]) -> list[Standing]:
    """Every trial, best first: finalists, other trials that ended, those that run, those that were stopped, the rest.

    Within each group the lower mean loss is better, and then the lower number. Finalists come first because their losses are
    means over several seeds: one that was never tried again may owe its loss to a lucky seed.
    """
    trials: dict[int, list[Result]] = {}
    for run in runs:
        trials.setdefault(run.trial, []).append(run)
    ordered = sorted((_standing(trial, own) for trial, own in trials.items()), key=_place)
    return [
        Standing(s.trial, s.state, s.finalist, s.losses, s.loss, rank=n if s.loss is not None else None)
        for n, s in enumerate(ordered, 1)
    ]


def _standing(trial: int, runs: Sequence[Result]) -> Standing:
    ended = {run.seed: run.loss for run in runs if run.state is RunState.SUCCEEDED and run.loss is not None}
    so_far = [run.loss for run in runs if run.loss is not None]
    loss = statistics.fmean(ended.values()) if ended else min(so_far, default=None)
    return Standing(trial, _state(runs), len(runs) > 1, ended, loss)


def _state(runs: Sequence[Result]) -> RunState:
    """Of a finalist: it runs until all its seeds have ended, and has succeeded if one of them did."""
    states = {run.state for run in runs}
    if RunState.RUNNING in states or {RunState.SUCCEEDED, RunState.WAITING} <= states:
        return RunState.RUNNING
    return RunState.SUCCEEDED if RunState.SUCCEEDED in states else runs[0].state


def _place(standing: Standing) -> tuple[bool, bool, int, float, int]:
    order = _ORDER.index(standing.state) if standing.state in _ORDER else len(_ORDER)
    loss = math.inf if standing.loss is None else standing.loss
    return not standing.losses, not standing.finalist, order, loss, standing.trial


def finalists(runs: Sequence[Result], count: int) -> list[int]:
    """The trials that run with the other seeds too: the best of those that ran to their end with the first."""
    return [s.trial for s in standings(runs) if s.losses][:count]


def lead(best: Standing, following: Standing | None) -> tuple[float | None, bool | None]:
    """By how much the best leads the next finalist, and whether that is more than the spread of both over their seeds."""
    if following is None or best.loss is None or following.loss is None:
        return None, None
    margin = following.loss - best.loss
    spread = None if best.std is None or following.std is None else math.hypot(best.std, following.std)
    return margin, None if spread is None else margin > spread
