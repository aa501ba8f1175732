"""The interval for a difference of two rates over the same items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from libs.common.statistics.clusters import design_effect
from libs.common.statistics.intervals import Interval, wilson_interval


def paired_rate_interval(
    a: Sequence[bool] | NDArray[np.bool_],
    b: Sequence[bool] | NDArray[np.bool_],
    groups: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Interval:
    """Newcombe's hybrid score interval (his method 10) for rate(b) - rate(a), at the effective sample size.

    With d = p_b - p_a, Wilson intervals (l_a, u_a) and (l_b, u_b), and φ the correlation of the paired
    answers:

        low  = d - √((p_b - l_b)² - 2φ (p_b - l_b)(u_a - p_a) + (u_a - p_a)²)
        high = d + √((u_b - p_b)² - 2φ (u_b - p_b)(p_a - l_a) + (p_a - l_a)²)

    φ = (eh - fg) / √((e + f)(g + h)(e + g)(f + h)), its numerator shrunk by n/2 towards zero when positive,
    and 0 when a margin is empty. Source: Newcombe, "Improved confidence intervals for the difference
    between binomial proportions based on paired data", Statistics in Medicine 17 (1998). Unlike a bootstrap
    it keeps a width where no item separates the arms. Groups divide the sample size by the design effect of
    the differences, after Korn and Graubard (see `clustered_wilson_interval`).

    Raises:
        ValueError: no items.
    """
    right_a, right_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    n = right_a.size
    if n == 0:
        raise ValueError("a difference needs at least one item")
    effect = design_effect(right_b.astype(np.float64) - right_a.astype(np.float64), groups)
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    phi = _shrunk_correlation(both, only_a, only_b, neither)
    rate_a, rate_b = float(right_a.mean()), float(right_b.mean())
    of_a = wilson_interval(rate_a * n / effect, n / effect, level)
    of_b = wilson_interval(rate_b * n / effect, n / effect, level)
    difference = rate_b - rate_a
    low = difference - _combine(rate_b - of_b.low, of_a.high - rate_a, phi)
    high = difference + _combine(of_b.high - rate_b, rate_a - of_a.low, phi)
    return Interval(max(-1.0, low), min(1.0, high))


def _combine(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def _shrunk_correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - (both + only_a + only_b + neither) / 2, 0.0)
    return product / math.sqrt(margins)
