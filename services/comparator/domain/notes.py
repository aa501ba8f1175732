"""What a reader must know beside the verdict: floors, suites that disagree, items that did not count."""

from __future__ import annotations

from collections.abc import Sequence

from libs.common.statistics.clusters import has_repeats
from model_training.contracts.comparisons import ArmResult, MissingArm, PairResult, Verdict
from services.comparator.domain.arms import PairedItems
from services.comparator.domain.case import Case
from services.comparator.domain.results import PRIMARY
from services.comparator.domain.verdict import CEILING, FEW_ITEMS, FLOOR
from services.comparator.domain.words import evidence, items, listed

CUT_SHORT = frozenset({"timeout", "out_of_memory", "no_answer"})
MANY = 0.1
"""A share of answers above which it is worth a sentence."""


def evidence_notes(
    case: Case, paired: PairedItems, secondary: Sequence[PairResult], verdict: Verdict
) -> list[str]:
    """Sentences on the items and what they can carry. Empty where nothing was graded."""
    if case.n == 0:
        return []
    return [
        *_few_items(case.n),
        *_extremes(case.arms),
        *_disagreements(case, secondary, verdict),
        *_cut_short(paired),
        *_left_out(paired),
        *_grouped(paired),
    ]


def without_some(verdict: Verdict, missing: Sequence[MissingArm]) -> Verdict:
    """The verdict where arms could not be compared: it says so first, and is moderately sure at most."""
    if not missing:
        return verdict
    notes = [
        f"{one.arm} is missing from the {'free ' if one.of == 'questions' else ''}{one.of}: {one.reason.rstrip('.')}."
        f"{f' {one.hint}' if one.hint else ''}"
        for one in missing
    ]
    is_less = verdict.confidence == "high" and any(one.of == "items" for one in missing)
    return verdict.model_copy(
        update={
            "notes": [*notes, *verdict.notes],
            "confidence": "moderate" if is_less else verdict.confidence,
        }
    )


def _few_items(n: int) -> list[str]:
    return [f"Only {items(n)} were asked; the intervals are wide."] if n < FEW_ITEMS else []


def _extremes(arms: Sequence[ArmResult]) -> list[str]:
    """A sentence for each suite in which an arm fails at, or solves, nearly everything."""
    notes: list[str] = []
    for suite in arms[0].suites:
        low = [_count(arm, suite) for arm in arms if arm.suites[suite]["pass_rate"] <= FLOOR]
        high = [_count(arm, suite) for arm in arms if arm.suites[suite]["pass_rate"] >= CEILING]
        if low:
            notes.append(
                f"Floor in {suite}: {listed(low)}. "
                "An arm down there says more about the model's size than about the method."
            )
        if high:
            notes.append(f"Ceiling in {suite}: {listed(high)}. Harder items would tell such arms apart.")
    return notes


def _count(arm: ArmResult, suite: str) -> str:
    numbers = arm.suites[suite]
    return f"{arm.name} at {numbers['correct']:.0f} of {numbers['n']:.0f}"


def _disagreements(case: Case, secondary: Sequence[PairResult], verdict: Verdict) -> list[str]:
    """Suites in which some arm is significantly ahead of the recommended one."""
    notes: list[str] = []
    for pair in secondary:
        if verdict.recommended not in {pair.a, pair.b} or pair.p_adjusted >= case.alpha:
            continue
        winner = pair.b if pair.difference > 0 else pair.a
        if winner != verdict.recommended:
            notes.append(f"{_where(pair.metric)} {winner} is ahead of {verdict.recommended}: {_size(pair)}.")
    return notes


def _where(metric: str) -> str:
    kind, _, suite = metric.partition(":")
    return f"In {suite} alone" if kind == PRIMARY else f"In mean score on {suite}"


def _size(pair: PairResult) -> str:
    return f"{evidence(pair)} ({pair.b} minus {pair.a})"


def _cut_short(paired: PairedItems) -> list[str]:
    notes: list[str] = []
    for arm in paired.arms:
        count = sum(answer.status in CUT_SHORT for answer in paired.of(arm))
        if count > MANY * len(paired.ids):
            notes.append(
                f"{arm.name}: {count} of {len(paired.ids)} answers were empty, timed out or ran out of "
                "memory; "
                "they count as wrong."
            )
    return notes


def _left_out(paired: PairedItems) -> list[str]:
    if not paired.left_out:
        return []
    return [f"{items(paired.left_out)} did not count, because not every arm answered them."]


def _grouped(paired: PairedItems) -> list[str]:
    groups = paired.groups
    if not has_repeats(groups):
        return []
    return [
        f"The {items(len(groups))} are about {len(set(groups)):,} functions. Items about one function are "
        "not "
        "independent, so tests swap whole functions and intervals are widened by the design effect."
    ]
