"""How well a search finds: recall@k, MRR and nDCG of labelled questions, with intervals, overall and by kind.

A question wants one or several things: a passage by id, or a function, which any passage about it satisfies. A thing is
found at the rank of the first passage that satisfies it; a second one adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from libs.common.statistics.bootstrap import bootstrap_difference, bootstrap_mean
from libs.common.statistics.intervals import Interval, clustered_wilson_interval
from model_training.contracts.indexes import Chunk
from model_training.contracts.retrieval import Estimate, LabelledQuestion, RetrievalMetrics

DEPTHS = (1, 3, 5, 10)

Ranks = tuple[int | None, ...]
"""For each thing that a question wants, the rank from 0 at which it was found, None where it was not."""


def ranks_of(question: LabelledQuestion, found: Sequence[Chunk]) -> Ranks:
    """Where each wanted thing was found."""
    by_id = [_first([wanted == chunk.id for chunk in found]) for wanted in question.passages]
    by_function = [_first([wanted in chunk.functions for chunk in found]) for wanted in question.functions]
    return (*by_id, *by_function)


def _first(holds: Sequence[bool]) -> int | None:
    return next((rank for rank, right in enumerate(holds) if right), None)


def recall(ranks: Ranks, k: int) -> float:
    """Share of the wanted things among the first k."""
    return sum(rank is not None and rank < k for rank in ranks) / len(ranks)


def reciprocal_rank(ranks: Ranks, k: int) -> float:
    """1 / (rank from 1) of the first thing found among the first k, else 0."""
    found = [rank for rank in ranks if rank is not None and rank < k]
    return 1 / (min(found) + 1) if found else 0.0


def ndcg(ranks: Ranks, k: int) -> float:
    """Normalised discounted cumulative gain of the first k, a thing gaining 1 where it is first found.

    Σ 1 / log2(rank + 2) over the best that is possible: the things at the first ranks. Two things at one rank, which is
    one passage that satisfies both, gain twice; the value is held at 1. Source: Järvelin and Kekäläinen, TOIS 2002.
    """
    gain = sum(1 / math.log2(rank + 2) for rank in ranks if rank is not None and rank < k)
    best = sum(1 / math.log2(rank + 2) for rank in range(min(len(ranks), k)))
    return min(1.0, gain / best)


METRICS = {"recall": recall, "mrr": reciprocal_rank, "ndcg": ndcg}


def cluster(question: LabelledQuestion) -> str:
    """What a question is about; questions about the same thing are not independent."""
    return (question.functions or question.passages)[0]


def summarise(questions: Sequence[LabelledQuestion], ranks: Sequence[Ranks], k: int) -> RetrievalMetrics:
    """Figures of one set of questions; `ranks` has a row for each."""
    groups = [cluster(question) for question in questions]
    depths = sorted({depth for depth in DEPTHS if depth < k} | {k})
    return RetrievalMetrics(
        questions=len(questions),
        recall={str(depth): estimate([recall(row, depth) for row in ranks], groups) for depth in depths},
        mrr=estimate([reciprocal_rank(row, k) for row in ranks], groups),
        ndcg=estimate([ndcg(row, k) for row in ranks], groups),
    )


def by_kind(
    questions: Sequence[LabelledQuestion], ranks: Sequence[Ranks], k: int
) -> Mapping[str, RetrievalMetrics]:
    """Figures of each kind of question."""
    kinds = sorted({question.kind for question in questions})
    rows = {kind: [i for i, question in enumerate(questions) if question.kind == kind] for kind in kinds}
    return {
        kind: summarise([questions[i] for i in chosen], [ranks[i] for i in chosen], k)
        for kind, chosen in rows.items()
    }


def estimate(values: Sequence[float], groups: Sequence[str]) -> Estimate:
    """A mean in 0..1 with its 95 % interval: Wilson's for yes and no, else a bootstrap over clusters."""
    if all(value in (0.0, 1.0) for value in values):
        interval = clustered_wilson_interval([value == 1.0 for value in values], groups)
    else:
        interval = bootstrap_mean(values, groups)
    return _estimate(sum(values) / len(values), interval, 0.0)


def difference(before: Sequence[float], after: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Mean of after - before on the same questions, with its 95 % interval."""
    mean = sum(b - a for a, b in zip(before, after, strict=True)) / len(before)
    return _estimate(mean, bootstrap_difference(before, after, groups), -1.0)


def _estimate(mean: float, interval: Interval, least: float) -> Estimate:
    return Estimate(estimate=mean, low=max(least, interval.low), high=min(1.0, interval.high))
