"""Looks at the growing data of a comparison whose items are asked in blocks: what each may conclude, and when to stop."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.statistics.group_sequential import bounds, nominal_level
from model_training.contracts.comparisons import Look, Verdict

LEVEL = 0.95


@dataclass(frozen=True)
class Looks:
    """By look so far, the items that were in; `of` looks are planned. Without any the data are looked at once, at last."""

    ids: Sequence[frozenset[str]] = ()
    of: int = 1

    @property
    def fractions(self) -> list[float]:
        """Share of the items that was planned to be in. Blocks are equally large but for groups that stay whole."""
        return [(number + 1) / self.of for number in range(len(self.ids))]

    @property
    def interval_level(self) -> float:
        """The level of an interval now, such that the intervals of all looks hold the truth together in 95%."""
        return 1 - self.nominal(1 - LEVEL) if self.ids else LEVEL

    def nominal(self, alpha: float) -> float:
        """The p-value that counts as real at the present look, for one difference at `alpha` over all looks."""
        return nominal_level(bounds(alpha, self.fractions)[-1]) if self.ids else alpha

    @property
    def is_last(self) -> bool:
        """Whether no block is left."""
        return len(self.ids) >= self.of


def orders(arms: int, blocks: int, seed: int) -> list[list[int]]:
    """By block, the order in which the arms are asked: the same for the same seed."""
    source = random.Random(seed)
    return [source.sample(range(arms), arms) for _ in range(blocks)]


def look(
    looks: Looks,
    verdict: Verdict | None,
    *,
    items: int,
    alpha: float,
    cost_usd: float,
    budget_usd: float | None,
) -> Look:
    """What this look saw, and whether the items go on. `verdict` is None where nothing was to be decided yet."""
    recommended = verdict.recommended if verdict else None
    settled = verdict is not None and recommended is not None and verdict.items_needed is None
    dear = budget_usd is not None and cost_usd >= budget_usd
    stopped = "end" if looks.is_last else "decided" if settled else "budget" if dear else None
    return Look(
        block=len(looks.ids),
        of=looks.of,
        items=items,
        level=looks.nominal(alpha),
        recommended=recommended,
        confidence=verdict.confidence if verdict else "cannot_tell",
        cost_usd=cost_usd,
        stopped=stopped,
    )


STOPPED = {
    "decided": "the verdict was settled",
    "budget": "the budget was spent",
    "end": "there were no more",
}


def look_notes(looks: Sequence[Look]) -> list[str]:
    """A sentence on the looks, where there were several planned."""
    if not looks:
        return []
    last = looks[-1]
    why = STOPPED[last.stopped or "end"]
    return [
        f"The items came in {last.of} blocks and were looked at after each; no more were asked after block {last.block} "
        f"({last.items:,} items), since {why}. p-values and intervals hold over all looks (alpha spending)."
    ]
