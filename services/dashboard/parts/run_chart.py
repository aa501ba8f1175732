"""Curves of one run or of several over each other. A long curve comes thinned out; nothing is sent that has not changed."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from services.dashboard.curves import Curve, Curves, Thin
from services.dashboard.parts import charts

POINTS_SHOWN = 1_200
"""Points of all lines of a chart together, about: a wide screen has hardly more columns."""
SMOOTH_FROM = 60
"""A curve with fewer points is drawn as it is."""

Metric = tuple[str, str, bool]
"""A metric's name, what it is called, and whether its line is dashed."""


class RunChart:
    """A line for each run and metric; `show` draws what is known now."""

    def __init__(self, metrics: Sequence[Metric], *, y: str = "", smooth: bool = False) -> None:
        self._metrics = metrics
        self._y = y
        self._smooth = smooth
        self._shown: tuple[int, ...] | None = None
        named = " and ".join(title for _, title, _ in metrics)
        self._chart = charts.draw(charts.lines([], y=y), label=f"Chart: {named} by step")
        self._empty = ui.label("No value was measured yet.").classes("soft")

    def show(self, runs: Sequence[tuple[str, Curves]]) -> None:
        """Draw the runs: pairs of name and curves."""
        lengths = tuple(len(_curve(curves, name)) for _, curves in runs for name, _, _ in self._metrics)
        if lengths == self._shown:
            return
        self._shown = lengths
        self._empty.set_visibility(not any(lengths))
        most = max(200, POINTS_SHOWN // max(1, len(lengths)))
        series: list[charts.Series] = []
        for position, (run, curves) in enumerate(runs):
            for number, (name, title, dashed) in enumerate(self._metrics):
                curve = _curve(curves, name)
                if not len(curve):
                    continue
                color = position if len(runs) > 1 else number
                label = f"{run} {title}" if len(runs) > 1 else title
                series += self._lines(label, curve.thin(most), color, dashed=dashed)
        self._chart.options.clear()
        self._chart.options.update(charts.lines(series, y=self._y))
        self._chart.update()

    def _lines(self, label: str, thin: Thin, color: int, *, dashed: bool) -> list[charts.Series]:
        if not self._smooth or len(thin.xs) < SMOOTH_FROM:
            return [charts.Series(label, thin, color, dashed)]
        return [
            charts.Series(f"{label}, as measured", thin, color, faint=True),
            charts.Series(label, smoothed(thin), color, dashed),
        ]


def smoothed(thin: Thin, weight: float = 0.9) -> Thin:
    """The exponential moving average, corrected for its beginning (as Adam's moments are)."""
    mean, ys = 0.0, []
    for count, value in enumerate(thin.ys, start=1):
        mean = weight * mean + (1 - weight) * value
        ys.append(mean / (1 - weight**count))
    return Thin(thin.xs, ys)


def _curve(curves: Curves, name: str) -> Curve:
    return curves.by_name.get(name) or Curve()
