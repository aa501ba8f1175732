"""Retrieval metrics by their definitions, fusion as the engine does it, and a choice that is judged on other questions."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.contracts.indexes import Chunk
from model_training.contracts.retrieval import LabelledQuestion, SearchOptions
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.domain import metrics, tuning
from services.rag.domain.search import Found, FusionRule, SearchPlan, diversify
from services.rag.ports import IndexPoint, Search


def chunk(name: str, *functions: str) -> Chunk:
    return Chunk(id=name, title=name, text=name, functions=list(functions))


def question(number: int, **labels: Any) -> LabelledQuestion:
    return LabelledQuestion(id=f"q{number}", question="how?", **labels)


def test_metrics_by_hand() -> None:
    found = [chunk("a", "f"), chunk("b"), chunk("c", "f", "g"), chunk("d")]
    wanted = question(1, passages=["d", "gone"], functions=["f", "g"])
    ranks = metrics.ranks_of(wanted, found)
    assert ranks == (3, None, 0, 2)
    assert [metrics.recall(ranks, k) for k in (1, 3, 4)] == [0.25, 0.5, 0.75]
    assert metrics.reciprocal_rank(ranks, 4) == 1.0
    assert metrics.reciprocal_rank((3, None), 4) == 0.25
    assert metrics.reciprocal_rank((3, None), 3) == 0.0
    gain = 1 / math.log2(2) + 1 / math.log2(4) + 1 / math.log2(5)
    best = sum(1 / math.log2(rank) for rank in (2, 3, 4, 5))
    assert metrics.ndcg(ranks, 4) == pytest.approx(gain / best)


@given(st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=6), st.integers(1, 20))
def test_metrics_are_shares_and_grow_with_depth(ranks: list[int | None], k: int) -> None:
    row = tuple(ranks)
    for metric in metrics.METRICS.values():
        assert 0 <= metric(row, k) <= 1
    assert metrics.recall(row, k) <= metrics.recall(row, k + 1)
    assert metrics.reciprocal_rank(row, k) <= metrics.reciprocal_rank(row, k + 1)


def test_figures_have_intervals_and_kinds() -> None:
    questions = [question(n, functions=[f"f{n // 2}"], kind="ab"[n % 2]) for n in range(40)]
    ranks: list[metrics.Ranks] = [(0,) if n % 4 else (None,) for n in range(40)]
    overall = metrics.summarise(questions, ranks, 5)
    assert overall.recall["5"].estimate == 0.75
    assert overall.recall["5"].low < 0.75 < overall.recall["5"].high
    assert set(overall.recall) == {"1", "3", "5"}
    kinds = metrics.by_kind(questions, ranks, 5)
    assert {kind: row.questions for kind, row in kinds.items()} == {"a": 20, "b": 20}
    assert kinds["b"].recall["5"].estimate == 1.0
    assert kinds["b"].recall["5"].low < 1.0  # twenty right of twenty do not prove that all are


@pytest.mark.parametrize(
    "rule", [FusionRule(), FusionRule(k=61, dense_weight=4.0, bm25_weight=1.0), FusionRule(method="dbsf")]
)
def test_fusion_here_is_fusion_in_the_engine(tmp_path: Path, rule: FusionRule) -> None:
    rng = random.Random(5)
    encoder = Bm25Encoder(Bm25Rule(average_length=8))
    points = []
    for number in range(60):
        text = " ".join([*rng.sample(["split", "merge", "window", "cache"], 2), *["filler"] * number])
        vector = [rng.gauss(0, 1) for _ in range(8)]
        points.append(
            IndexPoint(Chunk(id=f"c{number}", title="t", text=text), vector, encoder.document(text))
        )
    store = QdrantEdgeStore(tmp_path)
    stamp = {"embedder": {"dimension": 8}, "bm25": bm25_stamp(Bm25Rule(average_length=8))}
    store.build("idx", points, stamp)
    query = [rng.gauss(0, 1) for _ in range(8)]

    def ask(mode: Any) -> list[Found]:
        return store.search("idx", Search("merge the windows", query, mode, 30, rule))

    expected = {hit.chunk.id: hit.score for hit in ask("hybrid")}
    fused = tuning.fused(
        store.search("idx", Search("", query, "dense", 50, rule)),
        store.search("idx", Search("merge the windows", None, "bm25", 50, rule)),
        rule,
    )
    best = sorted(fused.values(), reverse=True)[:30]
    assert sorted(expected.values(), reverse=True) == pytest.approx(best, rel=1e-4)
    for name, score in expected.items():
        assert fused[name] == pytest.approx(score, rel=1e-4)


def test_candidates_start_with_the_default_and_differ() -> None:
    plans = tuning.candidates()
    assert plans[0] == SearchPlan()
    assert len(set(plans)) == len(plans)
    for plan in plans:
        assert SearchPlan().with_options(plan.as_options()) == plan


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_halves_share_no_topic_and_lose_no_question(topics: list[int]) -> None:
    questions = [question(n, functions=[f"f{topic}"]) for n, topic in enumerate(topics)]
    first, second = tuning.halves(questions)
    assert sorted(first + second) == list(range(len(questions)))
    assert not {topics[i] for i in first} & {topics[i] for i in second}


def test_options_override_defaults_one_by_one() -> None:
    tuned = SearchPlan(mode="dense", diversity=0.3, rerank="bge-reranker-base")
    asked = tuned.with_options(SearchOptions(diversity=0, rerank="none", bm25_weight=3))
    assert (asked.mode, asked.diversity, asked.rerank, asked.fusion.bm25_weight) == ("dense", 0.0, None, 3)
    assert tuned.with_options(SearchOptions()) == tuned


def _found(scores: list[float], vectors: list[list[float]]) -> list[Found]:
    return [
        Found(chunk(f"c{n}"), score, vector)
        for n, (score, vector) in enumerate(zip(scores, vectors, strict=True))
    ]


def test_diversity_moves_copies_back_and_zero_changes_nothing() -> None:
    found = _found([1.0, 0.99, 0.5, 0.0], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert [hit.chunk.id for hit in diversify(found, 0.0, 4)] == ["c0", "c1", "c2", "c3"]
    assert [hit.chunk.id for hit in diversify(found, 0.5, 2)] == ["c0", "c2"]
    assert diversify([], 0.5, 3) == []


@given(st.integers(1, 12), st.floats(0, 1), st.integers(1, 12), st.integers(0, 1000))
def test_diversity_returns_different_passages_and_the_best_first(
    count: int, diversity: float, limit: int, seed: int
) -> None:
    rng = random.Random(seed)
    scores = sorted((rng.random() for _ in range(count)), reverse=True)
    found = _found(scores, [[math.cos(a), math.sin(a)] for a in (rng.random() for _ in range(count))])
    taken = [hit.chunk.id for hit in diversify(found, diversity, limit)]
    assert len(set(taken)) == len(taken) == min(count, limit)
    if diversity < 1:
        assert taken[0] == "c0"
