"""Tests of "no difference" between two arms that answered the same items."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.common.statistics.clusters import Floats, cluster_sums
from libs.common.statistics.quantiles import fair_coin_cdf

ENUMERATED_CLUSTERS = 14
"""Up to this many clusters all 2^k sign patterns are tried (16,384 at most)."""
CONVOLUTION_CELLS = 20_000_000
"""Whole-number sums are convolved exactly up to this many additions."""
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class SignFlip:
    """A sign-flip test's outcome. `method` says whether `p` is exact or estimated by simulation."""

    p: float
    clusters: int
    method: Literal["exact", "monte_carlo"]


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: p of so uneven a split of the items that only one of two arms got right.

    p = min(1, 2 P(X <= min(b, c))), X binomial with n = b + c and 1/2. Items that both got right or wrong
    say nothing about the difference. Source: McNemar, Psychometrika 12 (1947); the exact form is the sign
    test. Needs independent items; for items in groups use `sign_flip`, which equals this one when every
    group has one item.

    Raises:
        ValueError: a negative count.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts must not be negative, got {only_a} and {only_b}")
    return min(1.0, 2 * fair_coin_cdf(min(only_a, only_b), only_a + only_b))


def sign_flip(
    differences: Sequence[float] | Floats,
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = 10_000,
) -> SignFlip:
    """Two-sided permutation test of a mean paired difference of zero, where items of a group belong together.

    If the arms do not differ, swapping their names on all items of a group changes nothing, so each group's
    sum S_g is as likely as -S_g. p is the share of sign patterns with |Σ ±S_g| >= |Σ S_g|. Exact by
    convolution where the sums are whole numbers (right or wrong answers), by enumeration with few groups,
    and otherwise by `draws` random patterns with p = (1 + hits) / (1 + draws), which is never zero.
    Sources: Fisher, "The Design of Experiments" (1935), section 21; the +1: Phipson and Smyth, "Permutation
    p-values should never be zero", SAGMB 9 (2010).
    """
    sums = cluster_sums(np.asarray(differences, dtype=np.float64), groups).sums
    moving = np.abs(sums[sums != 0])
    observed = abs(float(sums.sum()))
    if moving.size == 0:
        return SignFlip(1.0, len(sums), "exact")
    if _is_whole(moving) and moving.size * moving.sum() <= CONVOLUTION_CELLS:
        return SignFlip(_by_convolution(moving.astype(np.int64), round(observed)), len(sums), "exact")
    if moving.size <= ENUMERATED_CLUSTERS:
        return SignFlip(_by_enumeration(moving, observed), len(sums), "exact")
    return SignFlip(_by_simulation(moving, observed, seed, draws), len(sums), "monte_carlo")


def _is_whole(values: Floats) -> bool:
    return bool(np.all(values == np.round(values)))


def _by_convolution(sizes: NDArray[np.int64], observed: int) -> float:
    """Builds the exact distribution of Σ ±size; cell i holds the share of the sum i - total."""
    total = int(sizes.sum())
    share = np.zeros(2 * total + 1)
    share[total] = 1.0
    for size in sizes:
        share = (np.roll(share, size) + np.roll(share, -size)) / 2
    values = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(share[values >= observed].sum()))


def _by_enumeration(sizes: Floats, observed: float) -> float:
    patterns = np.arange(2**sizes.size, dtype=np.int64)[:, None]
    signs: NDArray[np.int64] = 1 - 2 * ((patterns >> np.arange(sizes.size, dtype=np.int64)) & 1)
    return float(np.mean(_reaches(np.abs(signs @ sizes), observed)))


def _by_simulation(sizes: Floats, observed: float, seed: int, draws: int) -> float:
    random = np.random.default_rng(seed)
    hits = 0
    for start in range(0, draws, BATCH):
        signs = random.integers(0, 2, size=(min(BATCH, draws - start), sizes.size)) * 2 - 1
        hits += int(_reaches(np.abs(signs @ sizes), observed).sum())
    return (1 + hits) / (1 + draws)


def _reaches(values: Floats, observed: float) -> NDArray[np.bool_]:
    """`values >= observed`, with sums that differ by rounding alone counted as equal."""
    return values >= observed - 1e-9 * max(1.0, observed)
