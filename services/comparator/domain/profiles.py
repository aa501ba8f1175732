"""What the arms are worth in a use: dollars per 1,000 questions, the choice that makes, and how firmly it stands.

The utility of an arm is linear in what a profile assumes, so what would have to change for another choice is solved for,
not searched: see `_flips`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from libs.common.statistics.bootstrap import bootstrap_mean
from libs.common.statistics.clusters import Floats
from model_training.contracts.comparisons import ArmResult, Prices, Profile, ProfileResult, Upkeep
from services.comparator.domain.arms import Arm, PairedItems
from services.comparator.domain.costs import dollars
from services.comparator.domain.economics import Setup, answer_costs
from services.comparator.domain.upkeep import ASSUMED_CHANGES, with_renewal

DRAWS = 500
SPREAD = 0.7
"""Standard deviation of the logarithm of a value that is drawn: 95% lie within a factor of four either way."""
FARTHEST = 100
"""Factors beyond this are not worth a sentence."""
PER = 1000
VALUES = (
    "a right answer's worth",
    "a wrong answer's cost",
    "the cost of waiting",
    "the price of answers",
    "the cost of renewal",
)


@dataclass(frozen=True)
class _Worth:
    """One arm in one profile."""

    name: str
    by_item: Floats
    """Dollars of each question, shape (items,), renewal left out."""
    parts: Floats
    """Dollars per question by what is assumed, in the order of `VALUES`, shape (5,); their sum is the utility."""

    @property
    def utility(self) -> float:
        return float(self.parts.sum())


def judge(
    profile: Profile,
    items: PairedItems,
    arms: Sequence[ArmResult],
    setup: Setup,
    prices: Prices,
    *,
    seed: int,
    kept_up: Sequence[Upkeep] = (),
) -> ProfileResult:
    """What a profile makes of the arms. `arms` are the results of `items.arms`, in the same order."""
    profile, renewal = with_renewal(profile, kept_up)
    excluded = _excluded(profile, arms)
    worth = [_worth(arm, items, profile, setup, prices) for arm in items.arms]
    ranked = sorted((w for w in worth if w.name not in excluded), key=lambda w: -w.utility)
    utility = {w.name: PER * w.utility for w in worth}
    if not ranked:
        words = f"No arm is fast enough: {'; '.join(excluded.values())}."
        return ProfileResult(
            profile=profile,
            recommended=None,
            utility_usd=utility,
            renewal=renewal,
            excluded=excluded,
            words=words,
        )
    best = ranked[0]
    lead = _lead(ranked, items, seed) if len(ranked) > 1 else None
    told = lead is None or lead[0] > 0
    return ProfileResult(
        profile=profile,
        recommended=best.name if told else None,
        utility_usd=utility,
        lead_low=lead[0] if lead else None,
        lead_high=lead[1] if lead else None,
        renewal=renewal,
        stability=_stability(ranked, seed),
        excluded=excluded,
        words=_words(ranked, lead),
        flips=_flips(ranked),
    )


def _excluded(profile: Profile, arms: Sequence[ArmResult]) -> dict[str, str]:
    limit = profile.max_latency_p95_s
    return {
        arm.name: f"{arm.name} takes {arm.latency_p95_s:.1f} s at the 95th percentile, more than {limit:g} s"
        for arm in arms
        if limit is not None and arm.latency_p95_s > limit
    }


def _worth(arm: Arm, items: PairedItems, profile: Profile, setup: Setup, prices: Prices) -> _Worth:
    answers = items.of(arm)
    right = np.array([answer.correct for answer in answers], dtype=np.float64)
    waited = np.array([answer.latency_s for answer in answers], dtype=np.float64) / 3600
    indexing = 1.0 if profile.indexing_renewed is None else profile.indexing_renewed
    change = setup.renewal_cost_of(arm, prices, training=profile.training_renewed, indexing=indexing)
    changes = ASSUMED_CHANGES if profile.changes_per_month is None else profile.changes_per_month
    renewal = change * changes / profile.questions_per_month
    columns = np.stack(
        [
            right * profile.right_answer_usd,
            (right - 1) * profile.wrong_answer_usd,
            -waited * profile.waiting_hour_usd,
            -answer_costs(arm, items, prices),
            np.full(len(answers), -renewal),
        ]
    )
    return _Worth(arm.name, columns.sum(axis=0), columns.mean(axis=1))


def _lead(ranked: Sequence[_Worth], items: PairedItems, seed: int) -> tuple[float, float]:
    """95% interval of the best arm's lead over the next, dollars per 1,000 questions; paired, groups drawn together."""
    interval = bootstrap_mean(ranked[0].by_item - ranked[1].by_item, items.groups, seed=seed)
    return PER * interval.low, PER * interval.high


def _stability(ranked: Sequence[_Worth], seed: int) -> float:
    """Share of draws of the five values, independent and log-normal about those assumed, that choose the same arm."""
    if len(ranked) == 1:
        return 1.0
    factors = np.exp(np.random.default_rng(seed).normal(0.0, SPREAD, size=(DRAWS, len(VALUES))))
    utilities = factors @ np.stack([worth.parts for worth in ranked]).T
    return float(np.mean(utilities.argmax(axis=1) == 0))


def _flips(ranked: Sequence[_Worth]) -> list[str]:
    """By value: the nearest factor at which another arm draws level, all else as assumed.

    Utility is a sum of parts, each proportional to one value, so the lead L of the best arm over another, of which the
    part d comes from the value, is L + (f - 1) d at f times the value: zero at f = 1 - L / d.
    """
    sentences: list[str] = []
    for position, value in enumerate(VALUES):
        levels = [
            (1 - (ranked[0].utility - other.utility) / d, other.name)
            for other in ranked[1:]
            if (d := float(ranked[0].parts[position] - other.parts[position])) != 0
        ]
        near = [(factor, name) for factor, name in levels if 1 / FARTHEST <= factor <= FARTHEST]
        if near:
            factor, name = min(near, key=lambda pair: abs(np.log(pair[0])))
            sentences.append(f"{value} {_times(factor)}: then {name} draws level.")
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _times(factor: float) -> str:
    return f"{factor:.2g} times as high" if factor >= 1 else f"at {factor:.2g} of what is assumed"


def _words(ranked: Sequence[_Worth], lead: tuple[float, float] | None) -> str:
    best = ranked[0]
    if lead is None:
        return f"{best.name} is the only arm within the limits."
    ahead = PER * (best.utility - ranked[1].utility)
    gap = f"{dollars(ahead)} per 1,000 questions [{signed_dollars(lead[0])}, {signed_dollars(lead[1])}]"
    if lead[0] > 0:
        return f"{best.name}, ahead of {ranked[1].name} by {gap}."
    return f"Cannot tell yet: {best.name} leads {ranked[1].name} by {gap}."


def signed_dollars(amount: float) -> str:
    """An amount of either sign; no number where nothing bounds it."""
    if not np.isfinite(amount):
        return "unbounded"
    return f"-{dollars(-amount)}" if amount < 0 else dollars(amount)


def pareto(arms: Sequence[ArmResult]) -> list[str]:
    """Arms that no other is at least as good as in rate, 95th percentile of time and cost, and better in one."""

    def figures(arm: ArmResult) -> tuple[float, float, float]:
        return (-arm.pass_rate, arm.latency_p95_s, arm.cost_usd)

    def beaten(arm: ArmResult) -> bool:
        mine = figures(arm)
        return any(
            other is not arm
            and figures(other) != mine
            and all(o <= m for o, m in zip(figures(other), mine, strict=True))
            for other in arms
        )

    return [arm.name for arm in arms if arm.n and not beaten(arm)]
