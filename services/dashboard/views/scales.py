"""Axes: round ends and ticks, and where a value lies on them. Amounts of money in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SMALLEST = 1e-200
"""Ranges below this are none."""


@dataclass(frozen=True)
class Axis:
    """A scale from its first to its last tick."""

    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value lies, in percent from the left; values outside lie on the edge."""
        low, high = self.ticks[0], self.ticks[-1]
        share = (value - low) / (high - low) if high > low else 0.0
        return round(100 * min(1.0, max(0.0, share)), 3)


def axis_over(values: Iterable[float], *, most: int = 5) -> Axis:
    """An axis with about `most` round stretches that holds zero and all values that are finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    step = _round_step((high - low) / most) if high - low > SMALLEST else 0.2
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 3 - math.floor(math.log10(step))
    return Axis(tuple(round(step * i, digits) for i in range(first, max(last, first + 1) + 1)))


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough * (1 - 1e-9))


def usd(amount: float | None) -> str:
    """Dollars of either sign, to the cent, or to two digits where they are less: $1,204.50; −$0.0042; a dash for None."""
    if amount is None or not math.isfinite(amount):
        return "–"
    sign, size = ("−" if amount < 0 else ""), abs(amount)
    if size == 0:
        return "$0"
    if size >= 0.1:
        return f"{sign}${size:,.2f}"
    digits = min(12, 1 - math.floor(math.log10(size)))
    return f"{sign}${size:.{digits}f}"


def points(difference: float) -> str:
    """A difference of rates in points: +12.5; −0.4; never −0.0."""
    value = round(100 * difference, 1) + 0.0
    return f"{value:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value: p = 0.031, p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def rate_words(right: int, of: int, rate: float, low: float, high: float) -> str:
    """A rate with its interval: `47 of 120 · 39.2% [30.7%, 48.3%]`."""
    return f"{right:,} of {of:,} · {100 * rate:.1f}% [{100 * low:.1f}%, {100 * high:.1f}%]"
