"""Has an evaluation got worse than a baseline, or is it noise? Pure; the rows are `ItemResult`s as dictionaries.

Items that share a group are right or wrong together, so the test flips signs of whole groups and the interval is widened.
A suite fell when its rate is lower with p (Holm's, over the suites) at most alpha. It did not fall when the interval lies
above the largest fall that does not matter. In between the items are too few to tell; the reply says how many would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from libs.common.errors import InvalidInput
from libs.common.statistics.clusters import design_effect
from libs.common.statistics.multiplicity import holm
from libs.common.statistics.paired import sign_flip
from libs.common.statistics.power import items_for_rate_difference, smallest_visible_rate_difference
from libs.common.statistics.rates import paired_rate_interval
from model_training.contracts.evaluations_gate import GateReply, GateRequest, GateSuite, Verdict

Row = Mapping[str, Any]
_LEAST_DISCORDANCE = 0.01
"""Where no item separates the two, this share stands for those that might."""


@dataclass(frozen=True)
class _Paired:
    """A suite's items that both answered."""

    suite: str
    ids: list[str]
    groups: list[str]
    before: list[bool]
    after: list[bool]
    only_new: int
    only_baseline: int


def judge(new: Sequence[Row], baseline: Sequence[Row], wanted: GateRequest, evaluation: str) -> GateReply:
    """Compare all suites that both have.

    Raises:
        InvalidInput: they share no item.
    """
    pairs = [_pair(suite, new, baseline) for suite in dict.fromkeys(row["suite"] for row in new)]
    pairs = [one for one in pairs if one.ids]
    if not pairs:
        raise InvalidInput(
            "The evaluation and the baseline share no item.",
            param="baseline",
            hint="Evaluate both with the same suites and file.",
        )
    tests = [sign_flip(np.subtract(one.after, one.before, dtype=np.float64), one.groups).p for one in pairs]
    suites = [_judge_suite(one, p, wanted) for one, p in zip(pairs, holm(tests), strict=True)]
    verdicts = {suite.verdict for suite in suites}
    worst: Verdict = (
        "fell" if "fell" in verdicts else "cannot_tell" if "cannot_tell" in verdicts else "no_fall"
    )
    return GateReply(
        evaluation=evaluation, baseline=wanted.baseline, passed=worst != "fell", verdict=worst, suites=suites
    )


def _pair(suite: str, new: Sequence[Row], baseline: Sequence[Row]) -> _Paired:
    after = {row["item_id"]: row for row in new if row["suite"] == suite}
    before = {row["item_id"]: row for row in baseline if row["suite"] == suite}
    ids = [name for name in after if name in before]
    return _Paired(
        suite=suite,
        ids=ids,
        groups=[str(after[name]["group"]) for name in ids],
        before=[bool(before[name]["correct"]) for name in ids],
        after=[bool(after[name]["correct"]) for name in ids],
        only_new=len(after) - len(ids),
        only_baseline=len(before) - len(ids),
    )


def _judge_suite(pair: _Paired, p: float, wanted: GateRequest) -> GateSuite:
    n = len(pair.ids)
    interval = paired_rate_interval(pair.before, pair.after, pair.groups)
    rate, before = sum(pair.after) / n, sum(pair.before) / n
    wins = [name for name, a, b in zip(pair.ids, pair.before, pair.after, strict=True) if b and not a]
    losses = [name for name, a, b in zip(pair.ids, pair.before, pair.after, strict=True) if a and not b]
    discordance = max((len(wins) + len(losses)) / n, _LEAST_DISCORDANCE)
    effect = design_effect(np.subtract(pair.after, pair.before, dtype=np.float64), pair.groups)
    visible = smallest_visible_rate_difference(n, discordance, design_effect=effect)
    verdict, reason = _verdict(rate - before, interval.low, p, wanted)
    if verdict == "cannot_tell":
        fall = max(wanted.largest_fall, 0.001)
        needed = items_for_rate_difference(fall, discordance, design_effect=effect)
        reason += f"; about {needed:,} items would show a fall of {fall:.1%}, {n:,} show {visible:.1%}"
    return GateSuite(
        suite=pair.suite,
        verdict=verdict,
        reason=reason,
        n=n,
        rate=rate,
        baseline_rate=before,
        difference=rate - before,
        low=interval.low,
        high=interval.high,
        p=p,
        smallest_visible=visible,
        wins=wins,
        losses=losses,
        only_new=pair.only_new,
        only_baseline=pair.only_baseline,
    )


def _verdict(difference: float, low: float, p: float, wanted: GateRequest) -> tuple[Verdict, str]:
    if difference < 0 and p <= wanted.alpha:
        return "fell", f"the rate fell by {-difference:.1%}, p = {p:.2g}"
    if low >= -wanted.largest_fall:
        return "no_fall", f"a fall of more than {wanted.largest_fall:.1%} is ruled out"
    if difference >= 0:
        return "cannot_tell", f"the rate did not fall, but a fall of up to {-low:.1%} is not ruled out"
    return "cannot_tell", f"the rate is {-difference:.1%} lower, which may be noise (p = {p:.2g})"
