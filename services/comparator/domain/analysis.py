"""From the arms' answers to arms, pairs and verdict: the whole of a comparison's arithmetic in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from libs.common.errors import InvalidInput
from model_training.contracts.comparisons import (
    ArmResult,
    Bound,
    BreakEven,
    ComparisonCreate,
    Dimension,
    Finding,
    KindResult,
    Look,
    PairResult,
    Profile,
    ProfileResult,
    RetrievalQuality,
    SideBySide,
    Upkeep,
    Verdict,
)
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import Arm, PairedItems, pair
from services.comparator.domain.bounds import bound_of, split
from services.comparator.domain.break_even import break_evens
from services.comparator.domain.case import Case
from services.comparator.domain.costs import cost_notes
from services.comparator.domain.dimensions import dimensions
from services.comparator.domain.economics import Setup
from services.comparator.domain.findings import find, proposals
from services.comparator.domain.kinds import by_kind
from services.comparator.domain.leaks import leaked_items
from services.comparator.domain.looks import Looks, look_notes
from services.comparator.domain.notes import evidence_notes
from services.comparator.domain.profiles import judge
from services.comparator.domain.results import arm_result, primary_pairs, secondary_pairs
from services.comparator.domain.retrieval import retrieval_quality
from services.comparator.domain.verdict import decide, spoilt


@dataclass(frozen=True)
class Analysis:
    """What the answers come to."""

    arms: list[ArmResult]
    pairs: list[PairResult]
    verdict: Verdict
    items: list[SideBySide]
    break_even: list[BreakEven]
    dimensions: list[Dimension]
    kinds: list[KindResult]
    profiles: list[ProfileResult]
    findings: list[Finding]
    proposals: list[dict[str, str]]
    leaked: list[str]
    bounds: list[Bound]
    retrieval: list[RetrievalQuality]


def analyse(
    request: ComparisonCreate,
    arms: Sequence[Arm],
    *,
    items_available: int | None = None,
    setup: Setup | None = None,
    free: Mapping[str, Sequence[ItemResult]] | None = None,
    profiles: Sequence[Profile] = (),
    looks: Sequence[Look] = (),
    seen: Looks | None = None,
    kept_up: Sequence[Upkeep] = (),
) -> Analysis:
    """Pair the answers, test the differences and decide.

    Args:
        items_available: items that the suites hold beyond those asked; None if unknown.
        setup: what training and indexing took; None if nothing of it is known.
        free: by arm, answers to questions without a reference; shown, and never graded.
        profiles: uses to judge the arms in, beside those of the request.
        kept_up: how often the indexes changed, for profiles that name no rate of their own.
        looks: what was seen while the items came in, and `seen`, the items of each look.

    Raises:
        InvalidInput: the arms did not answer the same items, or none of them may be chosen.
    """
    paired, bounds = _paired(arms)
    free, setup = free or {}, setup or Setup()
    results = [arm_result(arm, paired, request.prices, free.get(arm.name, ()), setup) for arm in paired.arms]
    graded = bool(paired.ids)
    primary = primary_pairs(paired, seen) if graded else []
    secondary = secondary_pairs(paired, request.seed) if graded else []
    case = Case(
        arms=results,
        pairs=primary,
        alpha=request.alpha,
        smallest_useful=request.smallest_useful_difference,
        items_available=items_available,
    )
    leaked = leaked_items(paired)
    verdict = spoilt(case, leaked) if leaked else decide(case)
    trained_s = setup.training_s if any(arm.is_tuned for arm in arms) else None
    notes = [
        *look_notes(looks),
        *verdict.notes,
        *evidence_notes(case, paired, secondary, verdict),
        *cost_notes(results, trained_s, request.prices),
    ]
    subject = verdict.recommended or max(results, key=lambda arm: arm.correct).name
    uses = [*request.profiles, *profiles] if graded else []
    return Analysis(
        arms=results,
        pairs=[evidence.result for evidence in primary] + secondary,
        verdict=verdict.model_copy(update={"notes": notes}),
        items=side_by_side(paired, bounds) + _free_side_by_side(free),
        break_even=break_evens(paired, setup, request.prices, request.seed),
        kinds=by_kind(paired, alpha=request.alpha, smallest_useful=request.smallest_useful_difference),
        profiles=[
            judge(use, paired, results, setup, request.prices, seed=request.seed, kept_up=kept_up)
            for use in uses
        ],
        dimensions=dimensions(paired, request) if graded else [],
        findings=find(paired, subject),
        proposals=proposals(paired, subject),
        leaked=leaked,
        retrieval=retrieval_quality(paired, bounds, request.seed),
        bounds=[bound_of(arm, paired, request.prices) for arm in bounds],
    )


def verdict_so_far(request: ComparisonCreate, arms: Sequence[Arm], seen: Looks) -> Verdict:
    """The decision alone, on the items that are in."""
    paired, _ = _paired(arms)
    case = Case(
        arms=[arm_result(arm, paired, request.prices) for arm in paired.arms],
        pairs=primary_pairs(paired, seen),
        alpha=request.alpha,
        smallest_useful=request.smallest_useful_difference,
        items_available=None,
    )
    return decide(case)


def fair_items(arms: Sequence[Arm]) -> PairedItems:
    """The items that all arms answered, with the arms that may be chosen.

    Raises:
        InvalidInput: the arms did not answer the same items, or none of them may be chosen.
    """
    return _paired(arms)[0]


def _paired(arms: Sequence[Arm]) -> tuple[PairedItems, list[Arm]]:
    """The arms that may be chosen over the items that all answered, the bounds too, and the bounds."""
    chosen, bounds = split(arms)
    if not chosen:
        raise InvalidInput(
            "Every arm is given the right passages, so none can be recommended.",
            param="arms",
            hint="Add an arm whose passages are `searched`, or one without retrieval.",
        )
    return replace(pair(arms), arms=pair(chosen).arms), bounds


def side_by_side(paired: PairedItems, bounds: Sequence[Arm] = ()) -> list[SideBySide]:
    """Each item with every arm's answer, in the common order."""
    return [
        SideBySide(
            item_id=item_id,
            suite=first.suite,
            question=first.question,
            reference=first.reference,
            answers={arm.name: arm.items[item_id] for arm in [*paired.arms, *bounds]},
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
