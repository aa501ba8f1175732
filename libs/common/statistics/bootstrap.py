"""Bootstrap intervals for means and paired mean differences, with whole groups drawn together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from libs.common.statistics.clusters import Floats, cluster_sums
from libs.common.statistics.intervals import Interval
from libs.common.statistics.quantiles import normal_cdf, normal_quantile, two_sided_t

BATCH_CELLS = 2_000_000


def bootstrap_mean(
    values: Sequence[float] | Floats,
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    draws: int = 4_000,
    seed: int = 0,
) -> Interval:
    """Interval for the mean of `values`; for paired data hand over the differences.

    Draws G groups with replacement and takes Σ S_g / Σ n_g, `draws` times. The interval ends are
    percentiles at α' = 2 Φ(-√(G/(G - 1)) t), t Student's quantile with G - 1 degrees of freedom at α/2:
    plain percentiles are too narrow for small G. Sources: Efron and Tibshirani, "An Introduction to the
    Bootstrap" (1993); the widening: Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 69 (2015), section 3.2. One group alone says nothing about spread: (-inf, inf).
    Values that are all equal give a point.

    Raises:
        ValueError: no values, or `level` outside (0, 1).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("a bootstrap needs at least one value")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    clusters = cluster_sums(array, range(array.size) if groups is None else groups)
    count = len(clusters.sums)
    if count == 1:
        return Interval(-math.inf, math.inf)
    means = _resampled_means(clusters.sums, clusters.sizes, draws, seed)
    tail = normal_cdf(-math.sqrt(count / (count - 1)) * two_sided_t(1 - level, count - 1))
    low, high = np.percentile(means, [100 * tail, 100 * (1 - tail)])
    return Interval(float(low), float(high))


def bca_mean(
    values: Sequence[float] | Floats,
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    draws: int = 4_000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval for the mean, whole groups drawn together.

    Percentiles at Φ(z₀ + (z₀ + z) / (1 - a (z₀ + z))), z the normal quantile of α/2 and 1 - α/2, z₀ that of the share of
    draws below the mean (ties count half), and a = Σ d³ / (6 (Σ d²)^1.5), d the jackknife's deviations with one group
    left out. Source: Efron, "Better bootstrap confidence intervals", JASA 82 (1987). Better than `bootstrap_mean` for
    skewed values and 50 groups or more; with fewer it is too narrow.

    Raises:
        ValueError: no values, or `level` outside (0, 1).
    """
    plain = bootstrap_mean(
        values, groups, level=level, draws=2, seed=seed
    )  # checks, and the two degenerate cases
    array = np.asarray(values, dtype=np.float64)
    clusters = cluster_sums(array, range(array.size) if groups is None else groups)
    if len(clusters.sums) == 1 or bool(np.all(array == array[0])):
        return plain
    means = _resampled_means(clusters.sums, clusters.sizes, draws, seed)
    mean = float(clusters.sums.sum() / clusters.sizes.sum())
    below = float((means < mean).mean() + (means == mean).mean() / 2)
    bias = normal_quantile(min(max(below, 1 / draws), 1 - 1 / draws))
    left_out = (clusters.sums.sum() - clusters.sums) / (clusters.sizes.sum() - clusters.sizes)
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    pull = float((deviations**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    ends: list[float] = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        moved = bias + normal_quantile(share)
        ends.append(float(np.percentile(means, 100 * normal_cdf(bias + moved / (1 - pull * moved)))))
    return Interval(ends[0], ends[1])


def bootstrap_difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval for the mean of `b - a` over the same items, shape (items,) each; see `bootstrap_mean`."""
    return bootstrap_mean(
        np.asarray(b, np.float64) - np.asarray(a, np.float64), groups, level=level, seed=seed
    )


def _resampled_means(sums: Floats, sizes: Floats, draws: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    count = len(sums)
    batch = max(1, BATCH_CELLS // count)
    parts: list[Floats] = []
    for start in range(0, draws, batch):
        chosen = random.integers(0, count, size=(min(batch, draws - start), count))
        parts.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    return np.concatenate(parts)
