"""The verdict: which arm to deploy, how sure that is, what more evidence takes. See docs/decisions/0006."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.contracts.comparisons import ArmResult, Verdict
from services.comparator.domain import reasons
from services.comparator.domain.case import Case, Relation

FLOOR, CEILING = 0.02, 0.98
"""Up to this rate an arm fails at (almost) everything; from this rate on it passes (almost) everything."""
FEW_ITEMS = 30
"""Below this no verdict is called high, whatever its p-value."""


def decide(case: Case) -> Verdict:
    """The verdict of a case. Always answers; `recommended` is None where the items do not carry one."""
    early = _no_case(case)
    if early is not None:
        return early
    chosen = next(arm for arm in reversed(case.arms) if _beats_all_simpler(case, arm))
    unsettled = [
        arm for arm in case.costlier(chosen) if case.relation(chosen, arm) in {Relation.OPEN, Relation.BETTER}
    ]
    if not unsettled:
        return _settled(case, chosen)
    contested = any(case.relation(chosen, arm) is Relation.BETTER for arm in unsettled)
    nearest = max(unsettled, key=lambda arm: arm.correct)
    if contested or chosen is case.arms[0]:
        return _cannot_tell(case, chosen, nearest)
    return _good_enough(case, chosen, nearest)


def _beats_all_simpler(case: Case, arm: ArmResult) -> bool:
    return all(case.relation(other, arm) is Relation.BETTER for other in case.simpler(arm))


def _no_case(case: Case) -> Verdict | None:
    """A verdict where statistics have nothing to say: no items, one arm, or items that no arm can do."""
    if case.n == 0:
        return _without(case, reasons.nothing_graded())
    if len(case.arms) == 1:
        return _without(case, reasons.one_arm(case.arms[0]))
    if all(arm.pass_rate <= FLOOR for arm in case.arms):
        return _without(case, reasons.all_at_floor(max(case.arms, key=lambda arm: arm.correct)))
    return None


def spoilt(case: Case, leaked: Sequence[str]) -> Verdict:
    """The verdict where retrieval handed out the items themselves: none."""
    return _without(case, reasons.leaked(leaked, case.n))


def _without(case: Case, reason: str) -> Verdict:
    return Verdict(
        recommended=None,
        confidence="cannot_tell",
        reason=reason,
        items_available=case.items_available or 0,
    )


def _settled(case: Case, chosen: ArmResult) -> Verdict:
    """Every costlier arm is out: worse, or better by less than is useful."""
    return Verdict(
        recommended=chosen.name,
        confidence="high" if case.n >= FEW_ITEMS else "moderate",
        reason=reasons.settled(case, chosen),
        items_available=case.items_available or 0,
    )


def _good_enough(case: Case, chosen: ArmResult, nearest: ArmResult) -> Verdict:
    """The chosen arm is proven against the simpler ones; whether a costlier one adds to it is open."""
    more = case.items_more(chosen, nearest, case.smallest_useful)
    return Verdict(
        recommended=chosen.name,
        confidence="moderate",
        reason=reasons.good_enough(case, chosen, nearest, more),
        items_needed=more,
        items_available=case.items_available or 0,
        notes=reasons.planning(case, chosen, nearest, more),
    )


def _cannot_tell(case: Case, chosen: ArmResult, nearest: ArmResult) -> Verdict:
    """No costlier arm is proven against every simpler one, and `nearest` may still be."""
    unbeaten = [arm for arm in case.simpler(nearest) if case.relation(arm, nearest) is not Relation.BETTER]
    rival = max(unbeaten, key=lambda arm: arm.correct)
    more = case.items_more(rival, nearest, case.smallest_useful)
    return Verdict(
        recommended=None,
        confidence="cannot_tell",
        reason=reasons.cannot_tell(case, chosen, rival, nearest, more),
        items_needed=more,
        items_available=case.items_available or 0,
        notes=reasons.planning(case, rival, nearest, more),
    )
