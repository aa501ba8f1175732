"""Curves of any length in little memory, thinned out to what a screen can show. No picture, no browser."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

from model_training.contracts.jobs import MetricPoint

SHOWN = 1_200
"""Points of a curve that are sent to a browser at most; a wide screen has hardly more columns."""

GROWTH = 0.01
TAIL = 24
"""Points that the last hundredth of a growing curve is drawn with."""


@dataclass(frozen=True)
class Thin:
    """A curve as it is drawn."""

    xs: list[float]
    ys: list[float]


class Curve:
    """One metric of one job: values by step, eight bytes each."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.values = array("d")
        self._thin: dict[int, _Thinned] = {}

    def add(self, step: float, value: float) -> None:
        """Append a point; steps never go back, but a repeated one takes the place of the last."""
        if self.steps and step <= self.steps[-1]:
            while self.steps and self.steps[-1] >= step:
                self.steps.pop()
                self.values.pop()
            self._thin.clear()
        self.steps.append(step)
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.steps)

    def thin(self, most: int = SHOWN) -> Thin:
        """The curve in about `most` points. Computed once for all browsers, and anew when it has grown by a hundredth."""
        count = len(self)
        known = self._thin.get(most)
        if known is None or count > known.count * (1 + GROWTH):
            known = self._thin[most] = _Thinned(count, extremes(self.steps, self.values, most))
        if count == known.count:
            return known.thin
        rest = extremes(self.steps[known.count :], self.values[known.count :], TAIL)
        return Thin(known.thin.xs + rest.xs, known.thin.ys + rest.ys)


@dataclass(frozen=True)
class _Thinned:
    """What was made of the first `count` points."""

    count: int
    thin: Thin


def extremes(xs: array[float], ys: array[float], most: int) -> Thin:
    """Lowest and highest point of every stretch, with both ends: no spike is lost, however few points are left.

    Values that are no finite numbers are left out.
    """
    count = len(xs)
    if count <= most:
        kept = [i for i in range(count) if math.isfinite(ys[i])]
        return Thin([xs[i] for i in kept], [ys[i] for i in kept])
    stretches = max(1, (most - 2) // 2)
    chosen: list[int] = [0]
    for stretch in range(stretches):
        start, end = 1 + stretch * (count - 2) // stretches, 1 + (stretch + 1) * (count - 2) // stretches
        inside = [i for i in range(start, end) if math.isfinite(ys[i])]
        if inside:
            low, high = min(inside, key=ys.__getitem__), max(inside, key=ys.__getitem__)
            chosen.extend(sorted({low, high}))
    chosen.append(count - 1)
    kept = [i for i in chosen if math.isfinite(ys[i])]
    return Thin([xs[i] for i in kept], [ys[i] for i in kept])


class Curves:
    """All metrics of one job."""

    def __init__(self) -> None:
        self.by_name: dict[str, Curve] = {}
        self.last_step = -1

    def add(self, points: list[MetricPoint] | tuple[MetricPoint, ...]) -> None:
        """Append points in the order of steps."""
        for point in points:
            self.last_step = point.step
            for name, value in point.values.items():
                self.by_name.setdefault(name, Curve()).add(float(point.step), value)

    def thin(self, name: str, most: int = SHOWN) -> Thin:
        """One metric as it is drawn; empty if the job has none of that name."""
        curve = self.by_name.get(name)
        return curve.thin(most) if curve is not None else Thin([], [])
