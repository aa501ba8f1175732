"""Intervals for rates: Wilson's, also for items in groups, the exact one, the Bayesian one for few items; and for counts.

Bootstraps are in `bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from libs.common.statistics.clusters import design_effect
from libs.common.statistics.quantiles import beta_quantile, gamma_quantile, two_sided_z


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval, `low <= high`."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether `value` lies within, ends included."""
        return self.low <= value <= self.high


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion.

    With p = successes / n and z the normal quantile of (1 + level) / 2:

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)

    It stays within [0, 1] and keeps its width at 0 of n and at n of n, where the textbook interval shrinks
    to a point. Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927); recommended for small n by Brown, Cai and DasGupta, Statistical Science 16 (2001).
    `n` may be an effective sample size and need not be whole. With `n` = 0 nothing is known: [0, 1].

    Raises:
        ValueError: `successes` outside 0..n, or `level` outside (0, 1).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    z = two_sided_z(1 - level)
    if n == 0:
        return Interval(0.0, 1.0)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """The exact interval for a proportion: it holds the truth at least as often as `level` says, and is wide for it.

    Ends are quantiles of Beta(s, n - s + 1) at α/2 and of Beta(s + 1, n - s) at 1 - α/2. Source: Clopper and
    Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934). With `n` = 0: [0, 1].

    Raises:
        ValueError: `successes` outside 0..n, or `level` outside (0, 1).
    """
    _check(successes, n, level)
    tail = (1 - level) / 2
    low = beta_quantile(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta_quantile(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return Interval(low, high)


def beta_binomial_interval(
    successes: int, n: int, level: float = 0.95, *, prior: tuple[float, float] = (1.0, 1.0)
) -> Interval:
    """The central credible interval of a rate: quantiles of Beta(a + s, b + n - s), (a, b) the prior; (1, 1) is flat.

    Source: Bowyer, Aitchison and Ivanova, "Position: Don't use the CLT in LLM evals with fewer than a few hundred
    datapoints" (ICML 2025), section 3.

    Raises:
        ValueError: `successes` outside 0..n, `level` outside (0, 1), or a prior that is not positive.
    """
    _check(successes, n, level)
    if min(prior) <= 0:
        raise ValueError(f"a prior must be positive, got {prior}")
    a, b = prior[0] + successes, prior[1] + n - successes
    tail = (1 - level) / 2
    return Interval(beta_quantile(tail, a, b), beta_quantile(1 - tail, a, b))


def percentile_interval(values: Sequence[float], share: float, level: float = 0.95) -> Interval:
    """An interval for the percentile `share` of what `values` were drawn from: two of the values themselves.

    The number of values below the percentile is binomial, so its quantiles, by the normal approximation, are the ranks.
    Source: Conover, "Practical Nonparametric Statistics" (1999), section 3.2. Ends at the extremes with few values.

    Raises:
        ValueError: no values, or `share` outside (0, 1).
    """
    if not values or not 0 < share < 1:
        raise ValueError(
            f"a percentile needs values and a share between 0 and 1, got {len(values)} and {share}"
        )
    ranked, n = sorted(values), len(values)
    half = two_sided_z(1 - level) * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - half), math.ceil(n * share + half)
    return Interval(ranked[min(max(low, 0), n - 1)], ranked[min(max(high, 0), n - 1)])


def poisson_interval(count: int, level: float = 0.95) -> Interval:
    """The exact interval for the mean of a Poisson count: quantiles of Gamma(c) at α/2 and of Gamma(c + 1) at 1 - α/2.

    Source: Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936). For a rate divide by the exposure.

    Raises:
        ValueError: a negative count, or `level` outside (0, 1).
    """
    if count < 0:
        raise ValueError(f"a count must not be negative, got {count}")
    _check(0, 1, level)
    tail = (1 - level) / 2
    low = gamma_quantile(tail, count) if count > 0 else 0.0
    return Interval(low, gamma_quantile(1 - tail, count + 1))


def _check(successes: float, n: float, level: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def clustered_wilson_interval(
    correct: Sequence[bool], groups: Sequence[Hashable], level: float = 0.95
) -> Interval:
    """Wilson's interval with the effective sample size n / design effect, for items that share a group.

    Items about one function are right or wrong together, so a hundred of them say less than a hundred
    independent ones. Source: Korn and Graubard, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data", Survey Methodology 24 (1998), there with
    Clopper-Pearson. Equals `wilson_interval` when no group repeats.
    """
    values = np.asarray(correct, dtype=np.float64)
    if values.size == 0:
        return wilson_interval(0, 0, level)
    effective = values.size / design_effect(values, groups)
    return wilson_interval(float(values.mean()) * effective, effective, level)
