"""Several answers to one question: how often one of k is right, and how often all k are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

from libs.common.statistics.bootstrap import bootstrap_mean
from libs.common.statistics.intervals import Interval, wilson_interval


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that at least one of k answers, drawn without replacement from n of which `correct` are right, is right.

    1 - C(n - c, k) / C(n, k), which is unbiased. Source: Chen et al., "Evaluating Large Language Models Trained on
    Code" (2021), section 2.1.

    Raises:
        ValueError: k outside 1..n, or `correct` outside 0..n.
    """
    _check(n, correct, k)
    return float(1 - Fraction(comb(n - correct, k), comb(n, k)))


def pass_power_k(n: int, correct: int, k: int) -> float:
    """The chance that all of k answers so drawn are right: C(c, k) / C(n, k), which is unbiased.

    Source: Yao et al., "τ-bench" (2024), there called pass^k.

    Raises:
        ValueError: as `pass_at_k`.
    """
    _check(n, correct, k)
    return float(Fraction(comb(correct, k), comb(n, k)))


def _check(n: int, correct: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and the number of answers, got {k} of {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"`correct` must lie between 0 and the number of answers, got {correct} of {n}")


@dataclass(frozen=True, slots=True)
class Repeated:
    """A mean over questions, with its 95% interval."""

    k: int
    value: float
    interval: Interval


def over_questions(
    counts: Sequence[tuple[int, int]],
    k: int,
    *,
    every: bool = False,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Repeated:
    """pass@k, or pass^k with `every`, of questions with (answers, right answers) each; the interval draws whole groups.

    Raises:
        ValueError: no question, or one with fewer than k answers.
    """
    rule = pass_power_k if every else pass_at_k
    values = [rule(n, correct, k) for n, correct in counts]
    mean = sum(values) / len(values)
    if min(values) == max(
        values
    ):  # a bootstrap of equal values has no width; few questions must still show theirs
        count = len(set(groups)) if groups is not None else len(values)
        return Repeated(k, mean, wilson_interval(mean * count, count))
    interval = bootstrap_mean(values, groups, seed=seed)
    return Repeated(k, mean, Interval(max(0.0, interval.low), min(1.0, interval.high)))
