"""The case that a verdict is made from: arms, tested pairs, and what is known of one arm against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from libs.common.statistics.power import items_for_rate_difference
from model_training.contracts.comparisons import ArmResult, PairResult
from services.comparator.domain.results import PairEvidence


class Relation(Enum):
    """What is known of a costlier arm against a simpler one."""

    BETTER = "significantly better, and by a useful difference as measured"
    WORSE = "significantly worse"
    NOT_WORTH = "at best better by less than a useful difference"
    OPEN = "not settled by these items"


@dataclass(frozen=True)
class Case:
    """Everything that a verdict is made from. `arms` are ordered by effort, the simplest first."""

    arms: Sequence[ArmResult]
    pairs: Sequence[PairEvidence]
    alpha: float
    smallest_useful: float
    items_available: int | None
    """Items that the suites hold beyond those used; None if unknown."""

    @property
    def n(self) -> int:
        """Items that every arm answered."""
        return self.arms[0].n

    @cached_property
    def evidence(self) -> Mapping[tuple[str, str], PairEvidence]:
        """The pairs by (simpler, costlier)."""
        return {(pair.result.a, pair.result.b): pair for pair in self.pairs}

    def between(self, a: ArmResult, b: ArmResult) -> PairResult:
        """The pair's result; `a` stands before `b` in `arms`."""
        return self.evidence[a.name, b.name].result

    def relation(self, a: ArmResult, b: ArmResult) -> Relation:
        """What is known of the costlier `b` against `a`."""
        pair = self.between(a, b)
        significant = pair.p_adjusted < self.alpha
        if significant and pair.difference >= self.smallest_useful:
            return Relation.BETTER
        if significant and pair.difference < 0:
            return Relation.WORSE
        return Relation.NOT_WORTH if pair.ci_high < self.smallest_useful else Relation.OPEN

    def simpler(self, arm: ArmResult) -> Sequence[ArmResult]:
        """The arms before this one."""
        return self.arms[: self.arms.index(arm)]

    def costlier(self, arm: ArmResult) -> Sequence[ArmResult]:
        """The arms after this one."""
        return self.arms[self.arms.index(arm) + 1 :]

    def items_more(self, a: ArmResult, b: ArmResult, difference: float) -> int:
        """Items beyond those used that show `difference` between two arms at 80% power, at α over all pairs.

        Where the items used would already do, the truth lies near the smallest useful difference; then
        three times as many again, which halves the interval.
        """
        pair = self.evidence[a.name, b.name]
        needed = items_for_rate_difference(
            difference,
            pair.discordance,
            alpha=self.alpha / len(self.pairs),
            design_effect=pair.design_effect,
        )
        return needed - self.n if needed > self.n else 3 * self.n
