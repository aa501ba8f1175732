"""The verdict against known truth: golden scenarios, arms of equal quality, and counts of items that were recommended."""

from __future__ import annotations

import random

import pytest

from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Verdict
from services.comparator.domain.analysis import analyse
from services.comparator.domain.arms import Arm, pair
from services.comparator.domain.case import Case
from services.comparator.domain.results import arm_result, primary_pairs
from services.comparator.domain.verdict import decide
from tests.unit.comparator.made_up import arm_with, arms_with_rates

FOUR = ("base", "rag", "tuned", "tuned+rag")


def verdict_of(arms: list[Arm]) -> Verdict:
    """The decision alone, as `analyse` makes it."""
    paired = pair(arms)
    request = ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms], test_queries=["?"])
    results = [arm_result(arm, paired, request.prices) for arm in paired.arms]
    useful = request.smallest_useful_difference
    return decide(Case(results, primary_pairs(paired), request.alpha, useful, None))


@pytest.mark.parametrize(
    ("truth", "n", "recommended"),
    [
        ({"base": 0.6, "rag": 0.1, "tuned": 0.1, "tuned+rag": 0.1}, 400, {"base"}),
        ({"base": 0.1, "rag": 0.6, "tuned": 0.1, "tuned+rag": 0.1}, 400, {"rag"}),
        ({"base": 0.1, "rag": 0.1, "tuned": 0.6, "tuned+rag": 0.1}, 400, {"tuned"}),
        ({"base": 0.1, "rag": 0.2, "tuned": 0.3, "tuned+rag": 0.7}, 400, {"tuned+rag"}),
        ({"base": 0.1, "rag": 0.7, "tuned": 0.4, "tuned+rag": 0.4}, 400, {"rag"}),
        ({"base": 0.3, "rag": 0.3, "tuned": 0.3, "tuned+rag": 0.3}, 40, {None}),
        ({"base": 0.3, "rag": 0.36, "tuned": 0.36, "tuned+rag": 0.38}, 60, {None}),
        ({"base": 0.0, "rag": 0.0, "tuned": 0.0, "tuned+rag": 0.01}, 100, {None}),
        ({"base": 0.5, "tuned": 0.9}, 300, {"tuned"}),
        ({"base": 0.9, "tuned": 0.5}, 300, {"base"}),
        ({"rag": 0.2, "tuned": 0.8}, 300, {"tuned"}),
        ({"rag": 0.8, "tuned": 0.2}, 300, {"rag"}),
    ],
    ids=lambda value: "-".join(f"{v:.0%}" for v in value.values()) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("per_group", [1, 3])
def test_the_verdict_names_the_right_arm_or_none(
    truth: dict[str, float], n: int, recommended: set[str | None], per_group: int
) -> None:
    arms = arms_with_rates(truth, n, seed=5, per_group=per_group)
    request = ComparisonCreate(arms=[ArmSpec(name=a.name, model=a.model) for a in arms], test_queries=["?"])
    outcome = analyse(request, arms)
    assert outcome.verdict.recommended in recommended


@pytest.mark.parametrize(
    "repetitions",
    [60, pytest.param(1000, marks=pytest.mark.slow)],
    ids=["60 repetitions", "1000 repetitions"],
)
@pytest.mark.parametrize("per_group", [1, 2])
def test_arms_of_equal_quality_are_called_different_in_one_case_of_twenty_at_most(
    repetitions: int, per_group: int
) -> None:
    """Standard error of 1,000 repetitions at 5%: 0.7 points."""
    claims = 0
    for seed in range(repetitions):
        arms = arms_with_rates(dict.fromkeys(FOUR, 0.4), 120, seed=seed, per_group=per_group)
        claims += verdict_of(arms).recommended not in {None, "base"}
    allowed = 0.05 + 2 * (0.05 * 0.95 / repetitions) ** 0.5
    assert claims / repetitions <= allowed


@pytest.mark.slow
def test_as_many_items_as_were_recommended_tell_a_useful_difference_in_four_of_five_repetitions() -> None:
    """Truth: one arm 10 points better, and 10 points is the smallest useful difference."""
    told = 0
    for seed in range(200):
        draw = random.Random(seed)

        def answers(n: int, draw: random.Random = draw) -> list[Arm]:
            luck = [draw.random() for _ in range(n)]
            return [
                arm_with("base", [u < 0.30 for u in luck]),
                arm_with("tuned", [0.05 <= u < 0.45 for u in luck]),
            ]

        def judged(arms: list[Arm]) -> tuple[Verdict, float]:
            paired = pair(arms)
            request = ComparisonCreate(
                arms=[ArmSpec(name=a.name, model=a.model) for a in arms], test_queries=["?"]
            )
            results = [arm_result(arm, paired, request.prices) for arm in paired.arms]
            pairs = primary_pairs(paired)
            return decide(Case(results, pairs, 0.05, 0.10, None)), pairs[0].result.p_adjusted

        pilot, _ = judged(answers(60))
        if pilot.items_needed is None:
            told += 1  # the first sixty were enough
            continue
        _, p = judged(answers(60 + pilot.items_needed))
        told += p < 0.05
    assert told / 200 >= 0.80 - 2 * (0.8 * 0.2 / 200) ** 0.5
