"""Tests of growing data at a few planned looks: what each look may spend of α, and a p-value that holds over all of them.

For comparisons that stop as soon as they are decided. Looks after any item, without a plan, are in `sequential`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from libs.common.statistics.clusters import Floats
from libs.common.statistics.quantiles import normal_quantile, normal_tails

NODES = 160
"""Points of the integral over the paths that have not stopped yet; 160 give the published bounds to 0.001."""
HALVINGS = 60
FARTHEST = 40.0
"""A bound of so many standard deviations is never crossed; it stands for a look that may spend nothing."""
LEVELS = np.exp(np.linspace(np.log(1e-9), np.log(0.999), 240))
"""Levels at which bounds are tabulated, to read a p-value off them; the smallest p-value that is told is the first."""


def spent(alpha: float, fraction: float) -> float:
    """The share of α spent when `fraction` t of the planned items is in: on either side 2 - 2Φ(z_{α/4} / √t).

    Next to nothing early on, so that the last look is hardly dearer than an only one. Source: Lan and DeMets, "Discrete
    sequential boundaries for clinical trials", Biometrika 70 (1983), their α₁* with α/2 on each side, which is close to
    O'Brien and Fleming's plan.

    Raises:
        ValueError: `alpha` outside (0, 1), or `fraction` outside (0, 1].
    """
    if not 0 < alpha < 1 or not 0 < fraction <= 1:
        raise ValueError(f"alpha must lie in (0, 1) and the fraction in (0, 1], got {alpha} and {fraction}")
    return float(_spent(np.array([alpha]), fraction)[0])


def bounds(alpha: float, fractions: Sequence[float]) -> list[float]:
    """By look: how far |z| must be out to call the difference real there, with at most α over all looks.

    Each bound solves P(no bound crossed before, |Z_k| >= c_k) = what the spending function gives look k. The density of the
    paths that go on is carried from look to look by numerical integration. Source: Armitage, McPherson and Rowe, "Repeated
    significance tests on accumulating data", JRSS A 132 (1969); Jennison and Turnbull, "Group Sequential Methods" (2000),
    chapter 19.

    Args:
        fractions: share of the planned items that is in at each look, rising, at most 1. A last look at 1 spends all of α.

    Raises:
        ValueError: fractions that do not rise, or lie outside (0, 1].
    """
    _check(fractions)
    return list(_bounds_of(alpha, tuple(fractions)))


@lru_cache(maxsize=256)
def _bounds_of(alpha: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(row[0]) for row in _bounds(np.array([alpha]), fractions))


def nominal_level(bound: float) -> float:
    """The two-sided p-value that just reaches a bound: 1 minus it is the level of a repeated confidence interval.

    Source: Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", JRSS B 51 (1989).
    """
    return float(2 * normal_tails(np.array([bound]))[0])


def sequential_p(p_values: Sequence[float], fractions: Sequence[float]) -> float:
    """The smallest α at which some look so far would have called the difference real: valid whichever look is the last.

    It can be adjusted for several differences like any p-value (Holm's procedure on it is the one of Maurer and Bretz,
    "Multiple testing in group sequential trials using graphical approaches", Statistics in Biopharmaceutical Research 5
    (2013)). Source: Liu and Anderson, "On adaptive extensions of group sequential trials", JASA 103 (2008).

    Args:
        p_values: by look, the two-sided p-value of all items that were in.
        fractions: by look, see `bounds`.

    Raises:
        ValueError: as many p-values as fractions are needed.
    """
    _check(fractions)
    if len(p_values) != len(fractions) or not p_values:
        raise ValueError(f"{len(fractions)} looks need as many p-values, got {len(p_values)}")
    table = _table(tuple(fractions))
    return min(_level_of(p, row) for p, row in zip(p_values, table, strict=True))


def _level_of(p: float, row: Floats) -> float:
    """The level whose bound at this look is just reached by `p`."""
    z = -normal_quantile(max(p, 1e-300) / 2)
    # Bounds fall as the level rises; np.interp wants them rising.
    level = np.exp(np.interp(z, row[::-1], np.log(LEVELS)[::-1]))
    return 1.0 if z < row[-1] else float(level)


@lru_cache(maxsize=64)
def _table(fractions: tuple[float, ...]) -> list[Floats]:
    return _bounds(LEVELS, fractions)


def _check(fractions: Sequence[float]) -> None:
    rising = all(a < b for a, b in pairwise(fractions))
    if not rising or not all(0 < t <= 1 for t in fractions):
        raise ValueError(f"fractions must rise and lie in (0, 1], got {list(fractions)}")


def _spent(alphas: Floats, fraction: float) -> Floats:
    z = np.array([-normal_quantile(alpha / 4) for alpha in alphas])
    return 4 * normal_tails(z / np.sqrt(fraction))


def _bounds(alphas: Floats, fractions: tuple[float, ...]) -> list[Floats]:
    """Bounds by look, each of shape (alphas,)."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    found: list[Floats] = []
    before = np.zeros_like(alphas)
    place = np.zeros((len(alphas), 1))  # where paths stand, (alphas, nodes), and how many of them
    mass = np.ones_like(place)
    last = 0.0
    for fraction in fractions:
        until = _spent(alphas, fraction)
        step = np.sqrt(fraction - last)
        edge = _edge(place, mass, step, until - before)
        found.append(edge / np.sqrt(fraction))
        nodes = edge[:, None] * x
        apart = (nodes[:, :, None] - place[:, None, :]) / step
        density = np.exp(-0.5 * apart**2) / (step * np.sqrt(2 * np.pi))
        mass = np.einsum("anm,am->an", density, mass) * edge[:, None] * weight
        place, before, last = nodes, until, fraction
    return found


def _edge(place: Floats, mass: Floats, step: float, wanted: Floats) -> Floats:
    """How far out, on the scale of the sum, leaves `wanted` beyond it on both sides; by halving, shape (alphas,)."""
    low = np.zeros(len(wanted))
    high = np.full(len(wanted), FARTHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # The paths lie alike on both sides, so the chance of ending above is half of it.
        beyond = 2 * (normal_tails((middle[:, None] - place) / step) * mass).sum(axis=1)
        low, high = np.where(beyond > wanted, middle, low), np.where(beyond > wanted, high, middle)
    return high
