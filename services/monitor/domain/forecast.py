"""When a training ends: a range that holds the true end four times in five, from how long its steps took so far.

The past is cut into stretches of equal numbers of steps. How much their speeds differ says how much the mean of the steps to
come may differ from the mean of those that were: the method of batch means (Law, Simulation Modeling and Analysis, chapter
9), here for a future mean, so that both its own spread and that of the estimate count. A machine's speed drifts, so newer
stretches weigh more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

STRETCHES = 10
FEWEST = 4
"""Stretches below which nothing is said."""

T_80 = {3: 1.638, 4: 1.533, 5: 1.476, 6: 1.440, 7: 1.415, 8: 1.397, 9: 1.383}
"""The 90% quantile of Student's t, by degrees of freedom: its range from both sides holds 80%."""

HALF_LIFE = 5.0
"""Stretches after which a stretch weighs half."""

USUAL, MOST_ALIKE = 0.4, 0.85
"""Correlation of neighbouring stretches."""

NARROWEST = 0.02
"""As a share: no machine is steadier."""


@dataclass(frozen=True)
class Forecast:
    """Seconds until the last step has been made."""

    low: float
    median: float
    high: float


def remaining(points: Sequence[tuple[int, float]], total: int, now: float) -> Forecast | None:
    """How long it takes from `now` until step `total`.

    Args:
        points: steps and the seconds at which they were done, in order, of this attempt alone.
        now: seconds on the same clock.

    Returns:
        None while there are too few steps to say.
    """
    stretches = _stretches(points)
    done = points[-1][0] if points else 0
    left = total - done
    if left <= 0:
        return Forecast(0.0, 0.0, 0.0) if points else None
    if len(stretches) < FEWEST:
        return None
    length = (points[-1][0] - points[0][0]) / len(stretches)
    weights = [0.5 ** (age / HALF_LIFE) for age in reversed(range(len(stretches)))]
    mean = sum(w * s for w, s in zip(weights, stretches, strict=True)) / sum(weights)
    spread = sum(w * (s - mean) ** 2 for w, s in zip(weights, stretches, strict=True)) / sum(weights)
    effective = sum(weights) ** 2 / sum(w * w for w in weights)
    variance = spread * effective / max(effective - 1, 1)
    alike = (1 + _alike(stretches)) / (1 - _alike(stretches))
    ahead = max(1.0, left / length)
    # The mean over what comes: its own spread, less the longer it is, and that of what it is estimated from.
    share = math.sqrt(variance * (min(1.0, alike / effective) + min(1.0, alike / ahead))) / mean
    reach = T_80[max(3, min(9, round(effective) - 1))] * math.hypot(share, NARROWEST)
    waited = max(0.0, now - points[-1][1])
    median = mean * left
    return Forecast(
        low=max(0.0, median * math.exp(-reach) - waited),
        median=max(mean / 2, median - waited),
        high=max(mean, median * math.exp(reach) - waited),
    )


def _alike(stretches: Sequence[float]) -> float:
    """How much neighbouring stretches are alike: their correlation, drawn half-way to what machines usually show.

    Of ten numbers a correlation is known badly, and too low: its bias is about -(1 + 4 rho) / n (Marriott and Pope, 1954).
    """
    mean = sum(stretches) / len(stretches)
    around = [one - mean for one in stretches]
    spread = sum(one * one for one in around)
    found = sum(a * b for a, b in pairwise(around)) / spread if spread else 0.0
    mended = (found * len(stretches) + 1) / (len(stretches) - 4) if len(stretches) > 5 else USUAL
    return min(MOST_ALIKE, max(0.0, (mended + USUAL) / 2))


def _stretches(points: Sequence[tuple[int, float]]) -> list[float]:
    """Seconds a step, over stretches of about the same number of steps; the first interval warms up and is left out."""
    usable = points[1:] if len(points) > 2 * FEWEST else points
    intervals = len(usable) - 1
    number = min(STRETCHES, intervals)
    if number < 1:
        return []
    edges = [round(index * intervals / number) for index in range(number + 1)]
    return [
        (usable[b][1] - usable[a][1]) / (usable[b][0] - usable[a][0])
        for a, b in pairwise(edges)
        if usable[b][0] > usable[a][0]
    ]
