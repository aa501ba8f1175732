"""Items that come in groups: their sums by group, and how much less they say than independent items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClusterSums:
    """Sum of the values and number of items of each group, in the order in which the groups first appear."""

    sums: Floats
    """Shape (groups,)."""
    sizes: Floats
    """Shape (groups,)."""


def cluster_sums(values: Floats, groups: Sequence[Hashable]) -> ClusterSums:
    """Add up `values`, shape (items,), by group.

    Raises:
        ValueError: as many groups as values are needed, one for each.
    """
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values need as many groups, got {len(groups)}")
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(group, len(order)) for group in groups], dtype=np.intp)
    return ClusterSums(
        sums=np.bincount(index, weights=values, minlength=len(order)).astype(np.float64),
        sizes=np.bincount(index, minlength=len(order)).astype(np.float64),
    )


def has_repeats(groups: Sequence[Hashable]) -> bool:
    """Whether some group holds more than one item."""
    return len(set(groups)) < len(groups)


def design_effect(values: Floats, groups: Sequence[Hashable]) -> float:
    """How many grouped items are worth one independent item: at least 1, at most an item's mean group size.

    The variance of the mean with groups, G/(G - 1) Σ_g (Σ_i (x_gi - x̄))² / n², over the variance
    Σ (x_i - x̄)² / (n (n - 1)) of independent items. Source: Kish, "Survey Sampling" (1965), chapter 5; the
    estimator is the cluster-robust one of Miller, "Adding Error Bars to Evals" (2024), with the usual
    G/(G - 1). Values without variation say nothing about groups: then the answer is the upper bound, the
    careful one, unless no group repeats.
    """
    if not has_repeats(groups):
        return 1.0
    clusters = cluster_sums(values - values.mean(), groups)
    n, count = len(values), len(clusters.sums)
    most = float((clusters.sizes**2).sum() / n)
    spread = float(((values - values.mean()) ** 2).sum())
    if spread == 0 or count == 1:
        return most
    grouped = count / (count - 1) * float((clusters.sums**2).sum()) / n**2
    return float(min(max(grouped / (spread / (n * (n - 1))), 1.0), most))


def clustered_standard_error(values: Floats, groups: Sequence[Hashable]) -> float:
    """Standard error of the mean of `values`, shape (items,), where items of a group go together.

    √(G/(G - 1) Σ_g (Σ_i (x_gi - x̄))²) / n. Source: Liang and Zeger, Biometrika 73 (1986), with the usual correction for few
    groups; for evaluations: Miller, "Adding Error Bars to Evals" (2024), section 2.2. Infinite with one group.

    Raises:
        ValueError: as many groups as values are needed, one for each.
    """
    clusters = cluster_sums(values - values.mean(), groups)
    count = len(clusters.sums)
    if count < 2:
        return math.inf
    return float(np.sqrt(count / (count - 1) * (clusters.sums**2).sum()) / len(values))
