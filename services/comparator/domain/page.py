"""What the report's page shows, in the order and the geometry in which it shows it. Positions are in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_training.contracts.comparisons import ArmResult, ComparisonReport, PairResult, SideBySide
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.dataset_view import DatasetView, build_dataset_view
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


@dataclass(frozen=True)
class SourceView:
    """A passage that an answer was given; any part may be empty."""

    title: str
    place: str
    text: str


@dataclass(frozen=True)
class AnswerView:
    """One arm's answer to an item."""

    arm: str
    answer: ItemResult
    sources: list[SourceView]


@dataclass(frozen=True)
class ItemCard:
    """One item with its answers in the arms' order and what the filters ask about."""

    item: SideBySide
    answers: list[AnswerView]
    kind: str
    """`disagree`, `all-right`, `all-wrong` or `ungraded`."""


@dataclass(frozen=True)
class Page:
    """Everything that the templates need beside the report itself."""

    graded: bool
    rate_axis: Axis
    arms: list[tuple[ArmResult, Bar]]
    primary: PairChart | None
    secondary: list[PairChart]
    suites: list[SuiteChart]
    has_text_scores: bool
    loss: LossChart | None
    items: list[ItemCard]
    kinds: dict[str, int]
    suite_names: list[str]
    dataset: DatasetView


def build_page(report: ComparisonReport, items: Sequence[SideBySide]) -> Page:
    """The page of a report and its items."""
    graded = bool(report.arms) and report.arms[0].n > 0
    suite_names = list(report.arms[0].suites) if graded else []
    rates = [arm.ci_high for arm in report.arms]
    rates += [arm.suites[name]["ci_high"] for arm in report.arms for name in suite_names]
    axis = rate_axis(max(rates)) if graded else rate_axis(1.0)
    metrics = list(dict.fromkeys(pair.metric for pair in report.pairs))
    cards = [_card(item, [arm.name for arm in report.arms]) for item in items]
    return Page(
        graded=graded,
        rate_axis=axis,
        arms=[(arm, _bar(axis, arm.pass_rate, arm.ci_low, arm.ci_high)) for arm in report.arms],
        primary=_pair_chart(report, PRIMARY) if PRIMARY in metrics else None,
        secondary=[_pair_chart(report, metric) for metric in metrics if metric != PRIMARY],
        suites=[_suite_chart(report, name, axis) for name in suite_names],
        has_text_scores=any(arm.qa_f1 is not None or arm.qa_exact_match is not None for arm in report.arms),
        loss=loss_chart(report.training.get("losses") or []),
        items=cards,
        kinds={
            kind: sum(card.kind == kind for card in cards)
            for kind in ("disagree", "all-right", "all-wrong", "ungraded")
        },
        suite_names=list(dict.fromkeys(item.suite for item in items)),
        dataset=build_dataset_view(report.dataset),
    )


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


def _bar(axis: Axis, point: float, low: float, high: float) -> Bar:
    return Bar(axis.at(point), axis.at(low), axis.at(high))


def _pair_chart(report: ComparisonReport, metric: str) -> PairChart:
    pairs = [pair for pair in report.pairs if pair.metric == metric]
    useful = float(report.rules.get("smallest_useful_difference", 0.0))
    alpha = float(report.rules.get("alpha", 0.05))
    axis = difference_axis(
        [value for pair in pairs for value in (pair.ci_low, pair.ci_high)] + [useful, -useful]
    )
    kind, _, suite = metric.partition(":")
    rows = [
        PairRow(pair, _bar(axis, pair.difference, pair.ci_low, pair.ci_high), _outcome(pair, alpha), kind)
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


def _suite_chart(report: ComparisonReport, name: str, axis: Axis) -> SuiteChart:
    rows = [
        (
            arm,
            arm.suites[name],
            _bar(axis, *(arm.suites[name][key] for key in ("pass_rate", "ci_low", "ci_high"))),
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


def _card(item: SideBySide, order: Sequence[str]) -> ItemCard:
    answers = [
        AnswerView(name, item.answers[name], [_source(source) for source in item.answers[name].sources])
        for name in order
        if name in item.answers
    ]
    right = [view.answer.correct for view in answers]
    if any(view.answer.status == "not_graded" for view in answers):
        kind = "ungraded"
    elif all(right):
        kind = "all-right"
    else:
        kind = "disagree" if any(right) else "all-wrong"
    return ItemCard(item, answers, kind)


def _source(given: Mapping[str, Any]) -> SourceView:
    """A passage as retrieval reports it; whatever it leaves out stays empty."""
    where = given.get("source")
    where = where if isinstance(where, Mapping) else {}
    path, line = where.get("path"), where.get("line_start")
    place = f"{path}:{line}" if path and line else str(path or where.get("url") or "")
    return SourceView(
        str(given.get("title") or given.get("id") or "passage"), place, str(given.get("text") or "")
    )
