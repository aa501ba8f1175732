"""The charts of a report's page: axes, intervals and curves as positions in percent. Drawn by the templates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_training.contracts.comparisons import ArmResult, ComparisonReport, PairResult
from services.comparator.domain.results import PRIMARY


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with ticks."""

    low: float
    high: float
    ticks: list[float]

    def at(self, value: float) -> float:
        """Where a value lies, in percent from the left; values outside lie on the edge."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return round(100 * min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True)
class Bar:
    """An estimate with its interval, as positions on an axis."""

    point: float
    low: float
    high: float


@dataclass(frozen=True)
class PairRow:
    """One difference, ready to draw. `outcome` is better, worse or open, seen from `b`."""

    pair: PairResult
    bar: Bar
    outcome: str
    unit: str


@dataclass(frozen=True)
class PairChart:
    """Differences of one metric over one axis."""

    title: str
    axis: Axis
    rows: list[PairRow]
    zero: float
    useful: tuple[float, float]
    """Where differences too small to matter lie, from and to."""
    is_score: bool


@dataclass(frozen=True)
class SuiteChart:
    """One suite's rates."""

    name: str
    n: int
    rows: list[tuple[ArmResult, dict[str, float], Bar]]


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points as `x,y` for SVG, and its first and last value."""

    name: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class LossChart:
    """Losses over training steps; `ys` are the ticks with their heights in percent from the top."""

    lines: list[Line]
    steps: int
    ys: list[tuple[float, float]]


def rate_axis(highest: float) -> Axis:
    """From 0 to the next round rate above `highest`."""
    top = next((top for top in (0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.8) if highest <= top), 1.0)
    return Axis(
        0.0,
        top,
        [top * i / 4 for i in range(5)] if top in {0.2, 0.4, 0.8, 1.0} else [top * i / 5 for i in range(6)],
    )


def difference_axis(values: Sequence[float]) -> Axis:
    """Around zero, wide enough for all values, with round ticks."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = _round_step((high - low) / 5 or 0.1)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    count = round((high - low) / step)
    ticks = [round(low + i * step, 10) for i in range(count + 1)]
    return Axis(ticks[0], ticks[-1], ticks)


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough - 1e-12)


def bar(axis: Axis, point: float, low: float, high: float) -> Bar:
    return Bar(axis.at(point), axis.at(low), axis.at(high))


def pair_chart(report: ComparisonReport, metric: str) -> PairChart:
    pairs = [pair for pair in report.pairs if pair.metric == metric]
    useful = float(report.rules.get("smallest_useful_difference", 0.0))
    alpha = float(report.rules.get("alpha", 0.05))
    axis = difference_axis(
        [value for pair in pairs for value in (pair.ci_low, pair.ci_high)] + [useful, -useful]
    )
    kind, _, suite = metric.partition(":")
    rows = [
        PairRow(pair, bar(axis, pair.difference, pair.ci_low, pair.ci_high), _outcome(pair, alpha), kind)
        for pair in pairs
    ]
    titles = {PRIMARY: f"Correct answers, {suite}" if suite else "Correct answers, all items"}
    return PairChart(
        title=titles.get(kind, f"Mean score, {suite}"),
        axis=axis,
        rows=rows,
        zero=axis.at(0.0),
        useful=(axis.at(-useful), axis.at(useful)),
        is_score=kind != PRIMARY,
    )


def _outcome(pair: PairResult, alpha: float) -> str:
    if pair.p_adjusted >= alpha:
        return "open"
    return "better" if pair.difference > 0 else "worse"


def suite_chart(report: ComparisonReport, name: str, axis: Axis) -> SuiteChart:
    rows = [
        (
            arm,
            arm.suites[name],
            bar(axis, *(arm.suites[name][key] for key in ("pass_rate", "ci_low", "ci_high"))),
        )
        for arm in report.arms
    ]
    return SuiteChart(name, int(rows[0][1]["n"]), rows)


def loss_chart(points: Sequence[dict[str, Any]]) -> LossChart | None:
    """The curves of every measured value whose name holds `loss`; None with fewer than two points."""
    names = list(dict.fromkeys(key for point in points for key in point if "loss" in key))
    curves = {name: _curve(points, name) for name in names}
    curves = {name: curve for name, curve in curves.items() if len(curve) >= 2}
    if not curves:
        return None
    last_step = max(step for curve in curves.values() for step, _ in curve) or 1
    axis = difference_axis([0.0, max(value for curve in curves.values() for _, value in curve)])
    lines = [
        Line(
            name=name,
            points=" ".join(
                f"{100 * step / last_step:.2f},{100 - axis.at(value):.2f}" for step, value in curve
            ),
            first=curve[0][1],
            last=curve[-1][1],
        )
        for name, curve in curves.items()
    ]
    return LossChart(lines, last_step, [(tick, 100 - axis.at(tick)) for tick in axis.ticks])


def _curve(points: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    found = [
        (int(point["step"]), float(point[name]))
        for point in points
        if isinstance(point.get(name), (int, float))
    ]
    return [(step, value) for step, value in found if math.isfinite(value)]
