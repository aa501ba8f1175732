"""How well each arm that searches was served by its search: was a passage about the function asked among those it was given?

Read off the passages in the answers; nothing is asked again. What an index could find with other options is
`mt rag evaluate`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from libs.common.statistics.bootstrap import bootstrap_mean
from libs.common.statistics.intervals import clustered_wilson_interval
from model_training.contracts.comparisons import RetrievalQuality
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import RAG_PREFIX, Arm, PairedItems


def retrieval_quality(items: PairedItems, bounds: Sequence[Arm], seed: int) -> list[RetrievalQuality]:
    """One entry for each arm that searches, over all items; with a bound, over those that it had a right passage for."""
    findable = {i for bound in bounds for i in items.ids if bound.items[i].sources}
    return [
        _quality(arm.name, answers, seed)
        for arm in items.arms
        if arm.model.startswith(RAG_PREFIX)
        and (answers := [answer for answer in items.of(arm) if not bounds or answer.item_id in findable])
    ]


def _quality(name: str, answers: Sequence[ItemResult], seed: int) -> RetrievalQuality:
    groups = [answer.group for answer in answers]
    ranks = [_rank(answer) for answer in answers]
    hit = [rank is not None for rank in ranks]
    recall = clustered_wilson_interval(hit, groups)
    reciprocal = np.array([1 / rank if rank else 0.0 for rank in ranks], dtype=np.float64)
    mrr = bootstrap_mean(reciprocal, groups, seed=seed)
    with_it = [answer.correct for answer, was in zip(answers, hit, strict=True) if was]
    without = [answer.correct for answer, was in zip(answers, hit, strict=True) if not was]
    return RetrievalQuality(
        arm=name,
        n=len(answers),
        found=sum(hit),
        recall=sum(hit) / len(hit),
        recall_low=recall.low,
        recall_high=recall.high,
        mrr=float(reciprocal.mean()),
        mrr_low=max(0.0, mrr.low),
        mrr_high=min(1.0, mrr.high),
        right_when_found=_share(with_it),
        right_when_not_found=_share(without),
        passages=sum(len(answer.sources) for answer in answers) / len(answers),
    )


def _rank(answer: ItemResult) -> int | None:
    """The place of the first passage about the function that is asked about, from 1."""
    places = (place for place, source in enumerate(answer.sources, 1) if answer.group in _functions(source))
    return next(places, None)


def _functions(source: dict[str, object]) -> list[str]:
    named = source.get("functions")
    return [str(name) for name in named] if isinstance(named, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None
