"""From the arms' answers to arms, pairs and verdict: the whole of a comparison's arithmetic in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_training.contracts.comparisons import ArmResult, ComparisonCreate, PairResult, SideBySide, Verdict
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm, PairedItems, pair
from services.comparator.domain.case import Case
from services.comparator.domain.costs import cost_notes
from services.comparator.domain.notes import evidence_notes
from services.comparator.domain.results import arm_result, primary_pairs, secondary_pairs
from services.comparator.domain.verdict import decide


@dataclass(frozen=True)
class Analysis:
    """What the answers come to."""

    arms: list[ArmResult]
    pairs: list[PairResult]
    verdict: Verdict
    items: list[SideBySide]


def analyse(
    request: ComparisonCreate,
    arms: Sequence[Arm],
    *,
    items_available: int | None = None,
    training_s: float | None = None,
    free: Mapping[str, Sequence[ItemResult]] | None = None,
) -> Analysis:
    """Pair the answers, test the differences and decide.

    Args:
        items_available: items that the suites hold beyond those asked; None if unknown.
        training_s: machine seconds that training took; None if nothing was trained or it is unknown.
        free: by arm, answers to questions without a reference; shown, and never graded.

    Raises:
        InvalidInput: the arms did not answer the same items.
    """
    paired = pair(arms)
    free = free or {}
    results = [arm_result(arm, paired, request.prices, free.get(arm.name, ())) for arm in paired.arms]
    graded = bool(paired.ids)
    primary = primary_pairs(paired) if graded else []
    secondary = secondary_pairs(paired, request.seed) if graded else []
    case = Case(
        arms=results,
        pairs=primary,
        alpha=request.alpha,
        smallest_useful=request.smallest_useful_difference,
        items_available=items_available,
    )
    verdict = decide(case)
    tuned = frozenset(arm.name for arm in arms if arm.is_tuned)
    notes = [
        *verdict.notes,
        *evidence_notes(case, paired, secondary, verdict),
        *cost_notes(results, tuned, training_s, request.prices),
    ]
    return Analysis(
        arms=results,
        pairs=[evidence.result for evidence in primary] + secondary,
        verdict=verdict.model_copy(update={"notes": notes}),
        items=side_by_side(paired) + _free_side_by_side(free),
    )


def side_by_side(paired: PairedItems) -> list[SideBySide]:
    """Each item with every arm's answer, in the common order."""
    return [
        SideBySide(
            item_id=item_id,
            suite=first.suite,
            question=first.question,
            reference=first.reference,
            answers={arm.name: arm.items[item_id] for arm in paired.arms},
        )
        for item_id, first in zip(paired.ids, paired.of(paired.arms[0]), strict=True)
    ]


def _free_side_by_side(free: Mapping[str, Sequence[ItemResult]]) -> list[SideBySide]:
    return [
        SideBySide(
            item_id=row[0].item_id,
            suite=row[0].suite,
            question=row[0].question,
            reference="",
            answers=dict(zip(free, row, strict=True)),
        )
        for row in zip(*free.values(), strict=True)
    ]
