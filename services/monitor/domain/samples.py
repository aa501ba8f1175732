"""The newest readings of every metric, in memory, as far back as the rules look."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
"""Pairs in alphabetical order."""

FRESH_S = 60.0
"""A reading that is older no longer says how things are."""


@dataclass(frozen=True)
class Reading:
    """A series' value when it was read."""

    name: str
    labels: Labels
    value: float


@dataclass
class _Series:
    labels: Mapping[str, str]
    points: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])
    """Time and value."""


class Samples:
    """Readings by name and labels. Times are in seconds on any one clock that never goes back.

    Args:
        keep_s: how far back each metric is kept, by name; others for `FRESH_S`.
        now: when the watching began.
    """

    def __init__(self, keep_s: Mapping[str, float], now: float) -> None:
        self._keep_s = keep_s
        self._series: dict[str, dict[Labels, _Series]] = {}
        self.began = now

    def add(self, at: float, readings: Iterable[Reading]) -> None:
        """Take readings in; those older than what is kept go."""
        for reading in readings:
            of_name = self._series.setdefault(reading.name, {})
            series = of_name.get(reading.labels)
            if series is None:
                series = of_name[reading.labels] = _Series(dict(reading.labels))
            series.points.append((at, reading.value))
        self._forget(at)

    def latest(self, name: str, match: Mapping[str, str], at: float) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each fresh series."""
        return [
            (series.labels, series.points[-1][1])
            for series in self._matching(name, match)
            if series.points and series.points[-1][0] >= at - FRESH_S
        ]

    def increases(
        self, name: str, match: Mapping[str, str], window_s: float, at: float
    ) -> list[tuple[Mapping[str, str], float]]:
        """Labels and growth of each counter within a window; a counter that began again at 0 counts from there.

        A counter that is first seen in mid-window starts with its first value, as Prometheus has it.
        """
        found: list[tuple[Mapping[str, str], float]] = []
        for series in self._matching(name, match):
            points = list(series.points)
            first = bisect_left(points, (at - window_s,))
            growth, before = 0.0, None
            for _, value in points[first:]:
                if before is not None:
                    growth += value - before if value >= before else value
                before = value
            if before is not None:
                found.append((series.labels, growth))
        return found

    def seen(self, name: str, match: Mapping[str, str], window_s: float, at: float) -> bool:
        """Whether there was a reading within a window."""
        matching = self._matching(name, match)
        return any(series.points and series.points[-1][0] >= at - window_s for series in matching)

    def _matching(self, name: str, match: Mapping[str, str]) -> list[_Series]:
        return [series for series in self._series.get(name, {}).values() if matches(match, series.labels)]

    def _forget(self, at: float) -> None:
        for name, of_name in self._series.items():
            oldest = at - max(FRESH_S, self._keep_s.get(name, 0.0)) - 1.0
            for labels in list(of_name):
                points = of_name[labels].points
                while points and points[0][0] < oldest:
                    points.popleft()
                if not points:
                    del of_name[labels]


def matches(match: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether labels have the wanted values; `~` begins a regular expression for the whole value."""
    for name, wanted in match.items():
        value = labels.get(name, "")
        fits = re.fullmatch(wanted[1:], value) if wanted.startswith("~") else value == wanted
        if not fits:
            return False
    return True
