"""Quantiles and tails of a few distributions, and percentiles of a sample. The one door to scipy."""
# scipy carries no types; nothing of it leaves this file but floats.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special


def two_sided_z(alpha: float) -> float:
    """The normal quantile that leaves `alpha / 2` above it.

    Raises:
        ValueError: `alpha` outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    return float(-special.ndtri(alpha / 2))


def z_for_power(power: float) -> float:
    """The normal quantile of `power`: 0.84 for 80%.

    Raises:
        ValueError: `power` outside (0, 1).
    """
    if not 0 < power < 1:
        raise ValueError(f"power must lie between 0 and 1, got {power}")
    return float(special.ndtri(power))


def two_sided_t(alpha: float, degrees: float) -> float:
    """Student's quantile with `degrees` of freedom that leaves `alpha / 2` above it."""
    return float(-special.stdtrit(degrees, alpha / 2))


def normal_cdf(z: float) -> float:
    """The share of a normal distribution below `z`."""
    return float(special.ndtr(z))


def normal_tails(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of a normal distribution above each `z`, exact far out."""
    return np.asarray(special.ndtr(-z), dtype=np.float64)


def beta_quantile(share: float, a: float, b: float) -> float:
    """The value below which `share` of a Beta(a, b) distribution lies."""
    return float(special.betaincinv(a, b, share))


def gamma_quantile(share: float, shape: float) -> float:
    """The value below which `share` of a Gamma(shape, 1) distribution lies."""
    return float(special.gammaincinv(shape, share))


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return float(special.betaln(a, b))


def normal_quantile(share: float) -> float:
    """The value below which `share` of a normal distribution lies; infinite at 0 and 1."""
    return float(special.ndtri(share))


def fair_coin_cdf(heads: int, tosses: int) -> float:
    """The chance of at most `heads` heads in `tosses` of a fair coin."""
    return float(special.bdtr(heads, tosses, 0.5))


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles of a set of durations, in seconds."""

    p50: float
    p95: float
    mean: float


def latencies(seconds: Sequence[float]) -> Latencies:
    """Median, 95th percentile (linear between neighbours, numpy's default) and mean; zeros for no values."""
    if not seconds:
        return Latencies(0.0, 0.0, 0.0)
    values = np.asarray(seconds, dtype=np.float64)
    p50, p95 = (float(value) for value in np.percentile(values, [50, 95]))
    return Latencies(p50, p95, float(values.mean()))
