"""Curves of one run or of several over each other. A long curve comes thinned out; nothing is sent that has not changed.

A page opens with few points of a curve and gets the others a moment later: drawn with the page, they would hold the browser
while it has the most to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from services.dashboard.curves import Curve, Curves, Thin
from services.dashboard.parts import charts

POINTS_SHOWN = 1_200
"""Points of all lines of a chart together, about: a wide screen has hardly more columns."""
FIRST_SHOWN, DETAIL_AFTER_S = 300, 1.0
"""Points that a page opens with, and when the others follow."""
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
        self._runs: Sequence[tuple[str, Curves]] = ()
        self._shown: tuple[int, ...] | None = None
        self._points, self._waits = FIRST_SHOWN, False
        named = " and ".join(title for _, title, _ in metrics)
        self._chart = charts.draw(charts.lines([], y=y), label=f"Chart: {named} by step")
        self._empty = ui.label("No value was measured yet.").classes("soft")

    def show(self, runs: Sequence[tuple[str, Curves]]) -> None:
        """Draw the runs: pairs of name and curves."""
        lengths = tuple(len(_curve(curves, name)) for _, curves in runs for name, _, _ in self._metrics)
        if lengths == self._shown:
            return
        self._shown, self._runs = lengths, runs
        self._empty.set_visibility(not any(lengths))
        if not self._waits and sum(lengths) > FIRST_SHOWN:
            self._waits = True
            ui.timer(DETAIL_AFTER_S, self._refine, once=True)
        self._draw()

    def _refine(self) -> None:
        self._points = POINTS_SHOWN
        self._draw()

    def _draw(self) -> None:
        series: list[charts.Series] = []
        most = self._points // min(6, max(1, len(self._runs) * len(self._metrics)))
        for position, (run, curves) in enumerate(self._runs):
            for number, (name, title, dashed) in enumerate(self._metrics):
                curve = _curve(curves, name)
                if not len(curve):
                    continue
                color = position if len(self._runs) > 1 else number
                label = f"{run} {title}" if len(self._runs) > 1 else title
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
