"""How many items a paired comparison needs, and how small a difference a given number can show."""

from __future__ import annotations

import math

from libs.common.statistics.quantiles import two_sided_z, z_for_power


def items_for_rate_difference(
    difference: float,
    discordance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> int:
    """Items needed for McNemar's test to show a difference of two rates with the given power.

    n = ((z_{α/2} √ψ + z_power √(ψ - δ²)) / δ)² times the design effect, δ the `difference`, ψ the
    `discordance`: the share of items that exactly one arm gets right, at least |δ|. Source: Connor, "Sample
    size for testing differences in proportions for the paired-sample design", Biometrics 43 (1987).

    Raises:
        ValueError: a zero difference, which no number of items can show.
    """
    delta = abs(difference)
    if delta == 0:
        raise ValueError("no number of items shows a difference of zero")
    psi = min(1.0, max(discordance, delta))
    root = two_sided_z(alpha) * math.sqrt(psi) + z_for_power(power) * math.sqrt(psi - delta**2)
    return math.ceil(round((root / delta) ** 2 * max(1.0, design_effect), 9))


def items_for_mean_difference(
    difference: float,
    deviation: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> int:
    """Items needed to show a mean paired difference: ((z_{α/2} + z_power) σ / δ)² times the design effect.

    `deviation` σ is the standard deviation of the paired differences. Source: the normal approximation, as
    in Miller, "Adding Error Bars to Evals" (2024), section 5.

    Raises:
        ValueError: a zero difference, which no number of items can show.
    """
    if difference == 0:
        raise ValueError("no number of items shows a difference of zero")
    root = (two_sided_z(alpha) + z_for_power(power)) * deviation / abs(difference)
    return max(2, math.ceil(round(root**2 * max(1.0, design_effect), 9)))


def smallest_visible_rate_difference(
    n: int,
    discordance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> float:
    """The smallest difference that `n` items show with the given power, to 0.0001; 1 if there is none."""
    low, high = 1e-4, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        needed = items_for_rate_difference(
            middle, discordance, alpha=alpha, power=power, design_effect=design_effect
        )
        low, high = (low, middle) if needed <= n else (middle, high)
    return high
