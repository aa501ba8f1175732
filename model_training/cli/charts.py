"""Lines over steps in a terminal, drawn with Braille characters: two dots a column, four a row.

The client is installed alone on many machines, so nothing but `rich` is needed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the dot at (row, column) of a Braille character."""
_BLANK = 0x2800
_LABEL = 10
LEAST_WIDTH, LEAST_HEIGHT = 40, 6


@dataclass(frozen=True)
class Series:
    """One line. `points` are (step, value) in the order of steps."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def line_chart(series: Sequence[Series], width: int, height: int) -> Text:
    """A chart of `width` columns and `height` rows, axes and legend among them; series without points are left out."""
    shown = [one for one in series if one.points]
    columns, rows = max(width, LEAST_WIDTH) - _LABEL - 1, max(height, LEAST_HEIGHT) - 3
    if not shown:
        return Text("waiting for the first step …", style="dim")
    values = [value for one in shown for _, value in one.points]
    steps = [step for one in shown for step, _ in one.points]
    frame = _Frame(min(steps), max(steps), *_padded(min(values), max(values)), columns, rows)
    cells = _Cells(columns, rows)
    for one in shown:
        cells.draw(frame.place(one.points), one.colour)
    chart = _legend(shown)
    for row in range(rows):
        chart.append(f"{frame.label(row):>{_LABEL - 1}} ", style="dim").append("│", style="dim")
        chart.append_text(cells.row(row)).append("\n")
    first, last = f"{min(steps):g}", f"step {max(steps):g}"
    chart.append(" " * _LABEL + "└" + "─" * columns + "\n", style="dim")
    return chart.append(" " * (_LABEL + 1) + first + last.rjust(columns - len(first)), style="dim")


@dataclass(frozen=True)
class _Frame:
    """Where values lie: from (`left`, `low`) to (`right`, `high`) on `columns` x `rows` characters."""

    left: float
    right: float
    low: float
    high: float
    columns: int
    rows: int

    def place(self, points: Iterable[tuple[float, float]]) -> list[tuple[int, int]]:
        across, down = 2 * self.columns - 1, 4 * self.rows - 1
        span = self.right - self.left or 1.0
        return [
            (
                round((step - self.left) / span * across),
                round((self.high - value) / (self.high - self.low) * down),
            )
            for step, value in points
        ]

    def label(self, row: int) -> str:
        every = max(1, (self.rows - 1) // 3)
        if row % every:
            return ""
        value = self.high - (self.high - self.low) * row / max(1, self.rows - 1)
        return text if len(text := f"{value:.3g}") < _LABEL else f"{value:.0e}"


class _Cells:
    """Braille characters, each with the colour that was drawn into it last."""

    def __init__(self, columns: int, rows: int) -> None:
        self._dots = [[0] * columns for _ in range(rows)]
        self._colours = [[""] * columns for _ in range(rows)]

    def draw(self, points: Sequence[tuple[int, int]], colour: str) -> None:
        for x, y in _joined(points):
            self._dots[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            self._colours[y // 4][x // 2] = colour

    def row(self, number: int) -> Text:
        text = Text()
        for dots, colour in zip(self._dots[number], self._colours[number], strict=True):
            text.append(chr(_BLANK + dots) if dots else " ", style=colour)
        return text


def _joined(points: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Every dot on the straight lines from point to point."""
    yield from points[:1]
    for (x, y), (to_x, to_y) in pairwise(points):
        count = max(abs(to_x - x), abs(to_y - y), 1)
        for part in range(1, count + 1):
            yield x + round((to_x - x) * part / count), y + round((to_y - y) * part / count)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _legend(series: Sequence[Series]) -> Text:
    text = Text(" " * (_LABEL + 1))
    for one in series:
        text.append("━ ", style=one.colour).append(f"{one.name} {one.points[-1][1]:.3f}   ")
    return text.append("\n")
