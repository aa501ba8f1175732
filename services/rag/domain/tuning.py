"""Choosing how to search by measurement: every candidate is scored on one half of the questions, the best on the other.

The two lists of each question are fetched once; fusion is done here by the engine's own formulas, so that trying twenty
ways costs two searches a question.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from model_training.contracts.indexes import Chunk
from model_training.contracts.retrieval import LabelledQuestion
from services.rag.domain.metrics import cluster
from services.rag.domain.search import Found, FusionRule, SearchPlan

RRF_K = (2, 10, 61)
WEIGHTS = ((1.0, 1.01), (2.0, 1.0), (4.0, 1.0), (1.0, 2.0), (1.0, 4.0))


@dataclass(frozen=True)
class Lists:
    """What both ways found for one question, best first, `depth` passages each."""

    dense: Sequence[Found]
    bm25: Sequence[Found]

    def ranked(self, plan: SearchPlan) -> list[Chunk]:
        """The passages in the order of a plan, as the engine would give them."""
        if plan.mode == "dense":
            return [hit.chunk for hit in self.dense]
        if plan.mode == "bm25":
            return [hit.chunk for hit in self.bm25]
        chunks = {hit.chunk.id: hit.chunk for hit in (*self.dense, *self.bm25)}
        scores = fused(self.dense, self.bm25, plan.fusion)
        return [chunks[name] for name in sorted(scores, key=lambda name: -scores[name])]


def fused(dense: Sequence[Found], bm25: Sequence[Found], rule: FusionRule) -> dict[str, float]:
    """The fused score of every passage by id; formulas at `FusionRule`."""
    scores: dict[str, float] = {}
    for found, weight in ((dense[: rule.depth], rule.dense_weight), (bm25[: rule.depth], rule.bm25_weight)):
        values = _by_rank(found, rule.k, weight) if rule.method == "rrf" else _by_distribution(found)
        for name, value in values.items():
            scores[name] = scores.get(name, 0.0) + value
    return scores


def _by_rank(found: Sequence[Found], k: int, weight: float) -> Mapping[str, float]:
    return {hit.chunk.id: 1 / (k - 1 + (rank + 1) / weight) for rank, hit in enumerate(found)}


def _by_distribution(found: Sequence[Found]) -> Mapping[str, float]:
    scores = [hit.score for hit in found]
    if len(scores) < 2 or min(scores) == max(scores):
        return {hit.chunk.id: 0.5 for hit in found}
    mean, deviation = statistics.fmean(scores), statistics.stdev(scores)
    return {hit.chunk.id: (hit.score - (mean - 3 * deviation)) / (6 * deviation) for hit in found}


def candidates() -> list[SearchPlan]:
    """Every way that is tried, the platform's default first, so that a tie keeps it."""
    plans = [SearchPlan(), SearchPlan(mode="dense"), SearchPlan(mode="bm25")]
    for k, (dense, bm25) in product(RRF_K, WEIGHTS):
        plans.append(SearchPlan(fusion=FusionRule(k=k, dense_weight=dense, bm25_weight=bm25)))
    plans.append(SearchPlan(fusion=FusionRule(method="dbsf")))
    return list(dict.fromkeys(plans))


def halves(questions: Sequence[LabelledQuestion]) -> tuple[list[int], list[int]]:
    """Positions of the questions that choose and of those that judge; questions about one thing stay together."""
    order = sorted({cluster(question) for question in questions}, key=_shuffled)
    choosing = set(order[::2])
    first = [i for i, question in enumerate(questions) if cluster(question) in choosing]
    second = [i for i, question in enumerate(questions) if cluster(question) not in choosing]
    return first, second


def _shuffled(name: str) -> str:
    """An order that does not depend on the names' own and is the same in every run."""
    return hashlib.sha256(name.encode()).hexdigest()
