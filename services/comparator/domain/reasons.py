"""The sentences of a verdict: plain words with the numbers that they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.contracts.comparisons import ArmResult
from services.comparator.domain.case import Case, Relation
from services.comparator.domain.words import evidence, items, listed, points, score_of


def nothing_graded() -> str:
    """No item with a known answer was asked."""
    return (
        "Cannot tell: no question with a known answer was asked, so nothing could be graded. "
        "The answers stand side by side for you to read."
    )


def one_arm(arm: ArmResult) -> str:
    """Only one arm was measured."""
    return (
        f"Cannot tell: only {arm.name} was measured, {score_of(arm)} correct. "
        "A recommendation needs a second arm."
    )


def all_at_floor(best: ArmResult) -> str:
    """No arm can do these items."""
    return (
        f"Cannot tell: the best arm, {best.name}, answers {score_of(best)} correctly. That says more "
        "about the "
        "model's size than about the method; take a larger model or easier items before adding more of them."
    )


def leaked(ids: Sequence[str], n: int) -> str:
    """The passages hold items."""
    named = listed(list(ids[:5])) if len(ids) <= 5 else f"{', '.join(ids[:5])} and {len(ids) - 5:,} more"
    return (
        f"No verdict: {items(len(ids))} of {n:,} {'stands' if len(ids) == 1 else 'stand'} word for word in the passages "
        f"that retrieval returned ({named}), so an arm that retrieves was shown the exam. Take these pages out of "
        "the index, or these items out of the suites, and compare again."
    )


def settled(case: Case, chosen: ArmResult) -> str:
    """The chosen arm against the simpler ones, and why no costlier one."""
    rest = case.costlier(chosen)
    return " ".join([_lead(case, chosen), *([_why_not_costlier(case, chosen, rest)] if rest else [])])


def good_enough(case: Case, chosen: ArmResult, nearest: ArmResult, more: int) -> str:
    """The chosen arm against the simpler ones, and the costlier one that is not told apart from it."""
    return (
        f"{_lead(case, chosen)} {nearest.name} takes more effort and is not yet distinguishable from it "
        f"({evidence(case.between(chosen, nearest))}); to tell, {_needed(case, more)}."
    )


def cannot_tell(case: Case, chosen: ArmResult, rival: ArmResult, nearest: ArmResult, more: int) -> str:
    """The two arms between which the items do not decide."""
    reason = (
        f"Cannot tell yet: {rival.name} answers {score_of(rival)} correctly and {nearest.name} "
        f"{score_of(nearest)}, "
        f"{evidence(case.between(rival, nearest))}; {_needed(case, more)}."
    )
    if case.relation(chosen, nearest) is Relation.BETTER:
        proof = evidence(case.between(chosen, nearest))
        return f"{reason} Known so far: {nearest.name} beats {chosen.name} ({proof})."
    return f"{reason} Until then {chosen.name} is the simplest choice."


def planning(case: Case, a: ArmResult, b: ArmResult, more: int) -> list[str]:
    """What the number of items means, and what to do about it."""
    notes = [
        f"{items(more, 'more ')} would show a difference of {_bare(case.smallest_useful)} between {a.name} "
        f"and {b.name} "
        f"in four of five repetitions, with {_tests(case)}."
    ]
    pair = case.between(a, b)
    if abs(pair.difference) > case.smallest_useful and pair.p_adjusted >= case.alpha:
        fewer = case.items_more(a, b, pair.difference)
        notes.append(
            f"If the true difference is as large as the measured {_bare(abs(pair.difference))}, about "
            f"{items(fewer)} "
            "more will do; measured differences flatter, so do not count on it."
        )
    if case.items_available is not None and case.items_available < more:
        notes.append(
            "The suites do not hold that many items. Add some, settle for a larger smallest useful "
            "difference, "
            "compare fewer arms, or take the simpler arm."
        )
    return notes


def _lead(case: Case, chosen: ArmResult) -> str:
    """What the chosen arm reaches, and how far it is ahead of the strongest simpler one."""
    simpler = case.simpler(chosen)
    own = f"{chosen.name} answers {score_of(chosen)} correctly"
    if not simpler:
        return f"{own}, and nothing costlier is worth its effort."
    rival = max(simpler, key=lambda arm: arm.correct)
    others = [arm.name for arm in simpler if arm is not rival]
    beyond = f", and further ahead of {listed(others)}" if others else ""
    return f"{own}, {rival.name} {score_of(rival)}: {evidence(case.between(rival, chosen))}{beyond}."


def _why_not_costlier(case: Case, chosen: ArmResult, rest: Sequence[ArmResult]) -> str:
    best = max(rest, key=lambda arm: arm.correct)
    one = len(rest) == 1
    proof = evidence(case.between(chosen, best))
    proof = proof if one else f"{best.name}: {proof}"
    subject = f"{listed([arm.name for arm in rest])} {'takes' if one else 'take'} more effort and"
    if all(case.relation(chosen, arm) is Relation.WORSE for arm in rest):
        return f"{subject} {'does' if one else 'do'} worse ({proof})."
    return (
        f"{subject} {'is' if one else 'are'} not better by {_bare(case.smallest_useful)} or more ({proof})."
    )


def _needed(case: Case, more: int) -> str:
    needed = f"about {items(more, 'more ')} {'is' if more == 1 else 'are'} needed"
    if case.items_available is None:
        return f"{needed} (how many are available is not known)"
    return f"{needed}, {case.items_available:,} {'is' if case.items_available == 1 else 'are'} available"


def _tests(case: Case) -> str:
    return "one pair tested" if len(case.pairs) == 1 else f"{len(case.pairs)} pairs tested together"


def _bare(difference: float) -> str:
    return points(difference).lstrip("+")
