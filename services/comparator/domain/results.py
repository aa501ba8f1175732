"""What each arm and each pair of arms comes to: rates, scores, intervals and tests over the common items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from libs.common.statistics.bootstrap import bootstrap_difference
from libs.common.statistics.clusters import Floats, design_effect, has_repeats
from libs.common.statistics.group_sequential import sequential_p
from libs.common.statistics.intervals import clustered_wilson_interval
from libs.common.statistics.multiplicity import holm
from libs.common.statistics.paired import mcnemar_exact, sign_flip
from libs.common.statistics.quantiles import latencies
from libs.common.statistics.rates import paired_rate_interval
from model_training.contracts.comparisons import ArmResult, PairResult, Prices
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm, PairedItems
from services.comparator.domain.costs import cost_usd
from services.comparator.domain.economics import Setup, answer_costs
from services.comparator.domain.looks import Looks

PRIMARY = "correct"
"""The metric that the verdict stands on: the share of all items answered correctly."""

QA_SCORES = {
    "qa_exact_match": "exact_match",
    "qa_f1": "f1",
    "qa_bleu": "bleu",
    "qa_rouge_l": "rouge_l",
    "qa_chrf": "chrf",
}


@dataclass(frozen=True)
class PairEvidence:
    """A pair's result with what planning more items needs."""

    result: PairResult
    discordance: float
    """Share of items that exactly one of the two got right."""
    design_effect: float


def arm_result(
    arm: Arm, items: PairedItems, prices: Prices, free: Sequence[ItemResult] = (), setup: Setup | None = None
) -> ArmResult:
    """One arm over the common items. Rates carry Wilson intervals, widened where items share a group.

    Where nothing was graded, times, tokens and cost are those of the `free` answers.
    """
    answers = items.of(arm)
    asked = answers or list(free)
    times = latencies([answer.latency_s for answer in asked])
    correct = [answer.correct for answer in answers]
    interval = clustered_wilson_interval(correct, items.groups if answers else [])
    machine_s = _machine_seconds(arm, asked)
    own = arm.prices or prices
    cost = float(answer_costs(arm, items, own).sum()) if answers else cost_usd(machine_s, own)
    return ArmResult(
        name=arm.name,
        model=arm.model,
        evaluation=arm.evaluation,
        n=len(answers),
        correct=sum(correct),
        pass_rate=_mean(correct),
        ci_low=interval.low,
        ci_high=interval.high,
        suites={suite: _suite_numbers(arm, items.within(suite)) for suite in items.suites} if answers else {},
        **{field: _mean_score(answers, key) for field, key in QA_SCORES.items()},
        latency_p50_s=times.p50,
        latency_p95_s=times.p95,
        prompt_tokens=sum(answer.prompt_tokens for answer in asked),
        completion_tokens=sum(answer.completion_tokens for answer in asked),
        machine_s=machine_s,
        cost_usd=cost,
        effort=arm.effort,
        fixed_cost_usd=(setup or Setup()).cost_of(arm, prices),
        cost_per_correct_usd=cost / sum(correct) if any(correct) else None,
        evaluations=list(arm.evaluations),
    )


def total_cost_usd(arm: Arm, prices: Prices) -> float:
    """US dollars of every answer that the arm has given."""
    everything = PairedItems([arm], list(arm.items), 0)
    return float(answer_costs(arm, everything, prices).sum())


def _suite_numbers(arm: Arm, items: PairedItems) -> dict[str, float]:
    answers = items.of(arm)
    interval = clustered_wilson_interval([answer.correct for answer in answers], items.groups)
    return {
        "n": len(answers),
        "correct": sum(answer.correct for answer in answers),
        "pass_rate": _mean([answer.correct for answer in answers]),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "score": _mean([answer.score for answer in answers]),
    }


def _machine_seconds(arm: Arm, answers: Sequence[ItemResult]) -> float:
    """The evaluation's time, by the answers' share in its latencies; else the latencies' sum, an upper bound."""
    waited = sum(answer.latency_s for answer in answers)
    total = sum(item.latency_s for item in arm.items.values())
    return waited if arm.machine_s is None or total == 0 else arm.machine_s * waited / total


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _mean_score(answers: Sequence[ItemResult], key: str) -> float | None:
    """The mean over the suites that have this score; an answer without it (an empty one) counts as zero."""
    suites = {answer.suite for answer in answers if key in answer.scores}
    values = [answer.scores.get(key, 0.0) for answer in answers if answer.suite in suites]
    return _mean(values) if values else None


def primary_pairs(items: PairedItems, looks: Looks | None = None) -> list[PairEvidence]:
    """Every pair on the primary metric, p-values adjusted by Holm over all pairs.

    Where the growing data were looked at, p-values are adjusted for that first, and intervals hold over all looks.
    """
    looks = looks or Looks()
    pairs = list(combinations(items.arms, 2))
    evidence = [rate_pair(a, b, items, PRIMARY, level=looks.interval_level) for a, b in pairs]
    if not looks.ids:
        return _adjusted(evidence)
    p_values = [_p_by_look(a, b, items, looks) for a, b in pairs]
    return _adjusted(evidence, [sequential_p(p, looks.fractions) for p in p_values])


def _p_by_look(a: Arm, b: Arm, items: PairedItems, looks: Looks) -> list[float]:
    """The pair's p-value on the items of each look so far, not adjusted for there being several."""
    difference, groups = _correct(b, items) - _correct(a, items), items.groups
    values: list[float] = []
    for ids in looks.ids:
        chosen = [i for i, item_id in enumerate(items.ids) if item_id in ids]
        moved = difference[chosen]
        split = int((moved < 0).sum()), int((moved > 0).sum())
        values.append(_rate_test(moved, [groups[i] for i in chosen], *split)[0])
    return values


def _correct(arm: Arm, items: PairedItems) -> Floats:
    """1 for each right answer and 0 for each wrong one, shape (items,)."""
    return np.array([answer.correct for answer in items.of(arm)], dtype=np.float64)


def secondary_pairs(items: PairedItems, seed: int) -> list[PairResult]:
    """Every pair by suite: rates, and mean scores where a suite grades by degree. A metric is a Holm family."""
    results: list[PairEvidence] = []
    for suite in items.suites:
        of_suite = items.within(suite)
        arms = list(combinations(items.arms, 2))
        if len(items.suites) > 1:
            results += _adjusted([rate_pair(a, b, of_suite, f"{PRIMARY}:{suite}") for a, b in arms])
        if _graded_by_degree(of_suite):
            results += _adjusted([_score_pair(a, b, of_suite, f"score:{suite}", seed) for a, b in arms])
    return [evidence.result for evidence in results]


def _graded_by_degree(items: PairedItems) -> bool:
    return any(answer.score != float(answer.correct) for arm in items.arms for answer in items.of(arm))


def rate_pair(a: Arm, b: Arm, items: PairedItems, metric: str, *, level: float = 0.95) -> PairEvidence:
    """The difference in rate, with its interval and an unadjusted test."""
    right_a = np.array([answer.correct for answer in items.of(a)], dtype=bool)
    right_b = np.array([answer.correct for answer in items.of(b)], dtype=bool)
    groups, difference = items.groups, right_b.astype(np.float64) - right_a.astype(np.float64)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p, test = _rate_test(difference, groups, only_a, only_b)
    interval = paired_rate_interval(right_a, right_b, groups, level=level)
    result = PairResult(
        a=a.name,
        b=b.name,
        metric=metric,
        n=len(groups),
        difference=float(difference.mean()),
        ci_low=interval.low,
        ci_high=interval.high,
        p=p,
        p_adjusted=p,
        test=test,
        only_a=only_a,
        only_b=only_b,
    )
    return PairEvidence(result, (only_a + only_b) / len(groups), design_effect(difference, groups))


def _rate_test(difference: np.ndarray, groups: Sequence[str], only_a: int, only_b: int) -> tuple[float, str]:
    if not has_repeats(groups):
        return mcnemar_exact(only_a, only_b), "exact McNemar"
    outcome = sign_flip(difference, groups)
    return outcome.p, f"sign-flip by function ({outcome.method.replace('_', ' ')}, {outcome.clusters} groups)"


def _score_pair(a: Arm, b: Arm, items: PairedItems, metric: str, seed: int) -> PairEvidence:
    score_a = np.array([answer.score for answer in items.of(a)], dtype=np.float64)
    score_b = np.array([answer.score for answer in items.of(b)], dtype=np.float64)
    groups = items.groups
    interval = bootstrap_difference(score_a, score_b, groups, seed=seed)
    outcome = sign_flip(score_b - score_a, groups, seed=seed)
    result = PairResult(
        a=a.name,
        b=b.name,
        metric=metric,
        n=len(groups),
        difference=float((score_b - score_a).mean()),
        ci_low=max(-1.0, interval.low),
        ci_high=min(1.0, interval.high),
        p=outcome.p,
        p_adjusted=outcome.p,
        test=f"paired bootstrap, sign-flip by function ({outcome.method.replace('_', ' ')})",
    )
    return PairEvidence(result, 0.0, design_effect(score_b - score_a, groups))


def _adjusted(pairs: list[PairEvidence], p_values: Sequence[float] | None = None) -> list[PairEvidence]:
    adjusted = holm(p_values or [pair.result.p for pair in pairs])
    return [
        replace(pair, result=pair.result.model_copy(update={"p_adjusted": p}))
        for pair, p in zip(pairs, adjusted, strict=True)
    ]
