"""Whether newer values differ from those that were accepted, with a known rate of false alarms.

Two ways. `compare` holds a window against a reference: the threshold is what chance alone gives for these very sizes (a
permutation test), a difference too small to matter does not count, and with several signals the share of false alarms among
all is kept low. A fixed limit such as "PSI above 0.2" cannot do this: by chance alone 59% of windows of 50 pass it
beside a reference of 200. `Detector` looks at each value as it comes, with a stated mean time until a false alarm.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = Sequence[float] | Sequence[Sequence[float]]

SMALLEST_EFFECT = 0.15
"""In standard deviations of the reference: what is smaller is no drift, however certain."""

SHIFTS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
"""Shifts, in standard deviations, that a detector bets on, each with the same stake."""


@dataclass(frozen=True)
class Difference:
    """How far a window lies from its reference.

    `effect` is the Wasserstein distance in standard deviations of the reference: for a mere shift, the shift; for vectors
    its mean over the columns (the sliced distance of Bonneel et al., 2015, if the columns are random projections). `p` is
    the chance of a distance as large where nothing has changed; `threshold` the distance that chance passes at the wanted
    level.
    """

    effect: float
    p: float
    threshold: float


def compare(
    reference: Values,
    window: Values,
    *,
    level: float = 0.05,
    permutations: int = 499,
    seed: int = 0,
) -> Difference:
    """A window against its reference.

    Args:
        reference: n numbers, or n vectors of k numbers each.
        window: m of the same.
        level: how often chance may pass `threshold`.
        permutations: the smallest `p` is one divided by one more than this.

    Raises:
        ValueError: fewer than two values on a side.
    """
    if len(reference) < 2 or len(window) < 2:
        raise ValueError("a comparison needs two values on each side")
    size, count = len(reference), len(reference) + len(window)
    columns = [
        _Column.of(values, size)
        for values in np.asarray([*reference, *window], np.float64).reshape(count, -1).T
    ]
    is_known = np.arange(count) < size
    observed = _distance(columns, is_known[None, :])[0]
    generator = np.random.default_rng(seed)
    by_chance = np.empty(permutations)
    for first in range(0, permutations, 50):  # a bounded amount of memory
        rows = min(50, permutations - first)
        shuffled = generator.permuted(np.broadcast_to(is_known, (rows, count)), axis=1)
        by_chance[first : first + rows] = _distance(columns, shuffled)
    p = (1 + int(np.sum(by_chance >= observed - 1e-12))) / (permutations + 1)
    return Difference(float(observed), p, float(np.quantile(by_chance, 1 - level)))


@dataclass(frozen=True)
class _Column:
    """Values of both sides in ascending order: where each came from, and the gaps between them."""

    order: NDArray[np.intp]
    gaps: Floats
    """In standard deviations of the reference."""

    @classmethod
    def of(cls, values: Floats, size: int) -> _Column:
        order = np.argsort(values, kind="stable")
        scale = float(values[:size].std()) or float(values.std()) or 1.0
        return cls(order, np.diff(values[order]) / scale)


def _distance(columns: Sequence[_Column], is_known: NDArray[np.bool_]) -> Floats:
    """The area between two empirical distributions, as the mean of the columns, for each row of memberships."""
    known = np.count_nonzero(is_known[0])
    steps = np.where(is_known, 1.0 / known, -1.0 / (is_known.shape[1] - known))
    areas = [np.abs(np.cumsum(steps[:, one.order], axis=1)[:, :-1]) @ one.gaps for one in columns]
    return np.mean(areas, axis=0)


def drifted(
    differences: Mapping[str, Difference], *, share: float = 0.05, smallest_effect: float = SMALLEST_EFFECT
) -> set[str]:
    """The signals that drifted, of which on average at most `share` are false alarms (Benjamini and Hochberg, 1995).

    Input and output signals are given in one call or in two, as they should be judged together or apart.
    """
    ranked = sorted(differences, key=lambda name: differences[name].p)
    count = 0
    for rank, name in enumerate(ranked, start=1):
        if differences[name].p <= share * rank / len(ranked):
            count = rank
    return {name for name in ranked[:count] if differences[name].effect >= smallest_effect}


class Detector:
    """Looks at values one by one. Where nothing changes, it takes `run_length` values or more, on average, to a false alarm.

    Each value's rank among all before it is uniform as long as nothing changes, whatever the values' distribution (a
    conformal p-value). Bets on shifts turn it into an e-value, and the mean of Shiryaev-Roberts sums of them passes
    `run_length` after at least so many values on average (Shin, Ramdas and Rinaldo, "E-detectors", 2023).
    """

    def __init__(self, reference: Sequence[float], run_length: float = 10_000, seed: int = 0) -> None:
        """Take what was accepted; a hundred values or more make it sharp."""
        self._known = sorted(reference)
        self._run_length = run_length
        self._sums = [0.0] * len(SHIFTS)
        self._random = Random(seed)
        self._normal = NormalDist()

    def add(self, value: float) -> bool:
        """Take the next value; True is the alarm."""
        low, high = bisect_left(self._known, value), bisect_right(self._known, value)
        # Among equals its place is drawn, or ties would make ranks that are not uniform.
        place = low + self._random.random() * (high - low + 1)
        score = self._normal.inv_cdf(min(1 - 1e-9, max(1e-9, place / (len(self._known) + 1))))
        insort(self._known, value)
        for index, shift in enumerate(SHIFTS):
            self._sums[index] = (1 + self._sums[index]) * math.exp(shift * score - shift * shift / 2)
        return sum(self._sums) / len(SHIFTS) >= self._run_length
