"""Arms that were given the right passages: how much of what retrieval gets wrong is not found, and how much is not used."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.contracts.comparisons import Bound, Prices
from services.comparator.domain.arms import Arm, PairedItems
from services.comparator.domain.results import PRIMARY, arm_result, rate_pair
from services.comparator.domain.words import evidence, points, score_of


def bound_of(arm: Arm, items: PairedItems, prices: Prices) -> Bound:
    """One bound over the common items. `items.arms` are those that may be chosen; the bound answered the same items."""
    result = arm_result(arm, items, prices)
    searching = next((other for other in items.arms if other.model == arm.model), None)
    if not items.ids or searching is None:
        return Bound(arm=result, words=f"{arm.name}, given the right passages: {score_of(result)}.")
    pair = rate_pair(searching, arm, items, PRIMARY).result
    right, found = items.of(arm), items.of(searching)
    not_found = sum(a.correct and not b.correct for a, b in zip(right, found, strict=True))
    not_used = sum(not a.correct for a in right)
    unseen = sum(not answer.sources for answer in right)
    return Bound(
        arm=result,
        of=searching.name,
        pair=pair,
        not_found=not_found,
        not_used=not_used,
        words=f"{arm.name}, given the right passages, answers {score_of(result)} correctly: {evidence(pair)} against "
        f"{searching.name}, which has to find them. So better search is worth {points(max(0.0, pair.ci_high))} at most; "
        f"{not_used:,} of {len(right):,} items are wrong even with the right passage at hand{_unseen(unseen)}.",
    )


def _unseen(count: int) -> str:
    return f" ({count:,} of the items have none in the index)" if count else ""


def split(arms: Sequence[Arm]) -> tuple[list[Arm], list[Arm]]:
    """The arms that may be chosen, and the bounds."""
    return [arm for arm in arms if not arm.is_bound], [arm for arm in arms if arm.is_bound]
