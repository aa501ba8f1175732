"""The vector store on the real Qdrant engine: what it finds, how it fuses, and that nothing is ever half there."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import NotFound
from model_training.contracts.indexes import Chunk, Source
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.domain.search import FusionRule
from services.rag.ports import IndexPoint, Search

DIMENSION = 8
RULE = Bm25Rule(average_length=6)
STAMP: dict[str, Any] = {"embedder": {"name": "test", "dimension": DIMENSION}, "bm25": bm25_stamp(RULE)}
WORDS = [
    "split",
    "merge",
    "count",
    "cache",
    "window",
    "nest",
    "flat",
    "order",
    "first",
    "last",
    "group",
    "filter",
]


def points(count: int, seed: int = 0) -> list[IndexPoint]:
    rng = random.Random(seed)
    encoder = Bm25Encoder(RULE)
    made: list[IndexPoint] = []
    for number in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randint(3, 9)))
        chunk = Chunk(
            id=f"c{number}", title=f"t{number}", text=text, source=Source(package="p", line_start=number + 1)
        )
        vector = [rng.gauss(0, 1) for _ in range(DIMENSION)]
        made.append(IndexPoint(chunk, vector, encoder.document(text)))
    return made


@pytest.fixture
def store(tmp_path: Path) -> QdrantEdgeStore:
    return QdrantEdgeStore(tmp_path / "indexes")


def ask(
    mode: str, *, limit: int = 10, text: str = "merge the windows", rule: FusionRule | None = None
) -> Search:
    rng = random.Random(99)
    vector = [rng.gauss(0, 1) for _ in range(DIMENSION)]
    return Search(text, vector, mode, limit, rule or FusionRule())  # type: ignore[arg-type]


def cosine(a: list[float], b: list[float]) -> float:
    def norm(v: list[float]) -> float:
        return sum(x * x for x in v) ** 0.5

    return sum(x * y for x, y in zip(a, b, strict=True)) / norm(a) / norm(b)


def test_dense_search_is_exact_cosine_order(store: QdrantEdgeStore) -> None:
    made = points(300)
    store.build("idx_1", made, STAMP)
    search = ask("dense")
    expected = sorted(made, key=lambda point: -cosine(point.dense, search.vector or []))[:10]
    found = store.search("idx_1", search)
    assert [hit.chunk.id for hit in found] == [point.chunk.id for point in expected]
    assert found[0].score == pytest.approx(cosine(expected[0].dense, search.vector or []), abs=1e-5)


def test_bm25_finds_words_by_stem_and_only_those(store: QdrantEdgeStore) -> None:
    made = points(300)
    store.build("idx_1", made, STAMP)
    found = store.search("idx_1", ask("bm25", limit=100, text="the merges"))
    assert found
    assert all("merge" in hit.chunk.text.split() for hit in found)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert store.search("idx_1", ask("bm25", text="of the and")) == []


@pytest.mark.parametrize(
    "rule", [FusionRule(), FusionRule(k=60), FusionRule(k=2, dense_weight=1.0, bm25_weight=3.0)]
)
def test_fusion_is_reciprocal_rank_fusion(store: QdrantEdgeStore, rule: FusionRule) -> None:
    store.build("idx_1", points(300), STAMP)
    expected: dict[str, float] = {}
    for mode, weight in (("dense", rule.dense_weight), ("bm25", rule.bm25_weight)):
        for rank, hit in enumerate(store.search("idx_1", ask(mode, limit=rule.depth))):
            expected[hit.chunk.id] = expected.get(hit.chunk.id, 0.0) + 1 / (rule.k - 1 + (rank + 1) / weight)
    found = store.search("idx_1", ask("hybrid", limit=20, rule=rule))
    assert [hit.score for hit in found] == pytest.approx(
        sorted(expected.values(), reverse=True)[:20], rel=1e-5
    )
    for hit in found:
        assert hit.score == pytest.approx(expected[hit.chunk.id], rel=1e-5)


def test_the_same_question_gives_the_same_order_every_time(store: QdrantEdgeStore) -> None:
    store.build("idx_1", points(300), STAMP)
    orders = {
        tuple(hit.chunk.id for hit in store.search("idx_1", ask("hybrid", limit=20))) for _ in range(50)
    }
    assert len(orders) == 1


def test_hybrid_without_a_known_word_is_dense_order(store: QdrantEdgeStore) -> None:
    store.build("idx_1", points(100), STAMP)
    hybrid = store.search("idx_1", ask("hybrid", text="of the and"))
    dense = store.search("idx_1", ask("dense"))
    assert [hit.chunk.id for hit in hybrid] == [hit.chunk.id for hit in dense]


def test_what_was_stored_comes_back_whole_and_survives_a_restart(tmp_path: Path) -> None:
    made = points(600, seed=3)
    QdrantEdgeStore(tmp_path).build("idx_1", made, STAMP)
    again = QdrantEdgeStore(tmp_path)
    assert again.stamp("idx_1") == STAMP
    found = again.search("idx_1", ask("dense", limit=600))
    assert {hit.chunk.id: hit.chunk for hit in found} == {point.chunk.id: point.chunk for point in made}


def test_a_build_that_fails_leaves_the_old_index_and_no_rest(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path)
    store.build("idx_1", points(50), STAMP)
    before = store.search("idx_1", ask("hybrid"))

    def broken() -> Iterator[IndexPoint]:
        yield from points(400, seed=1)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk"):
        store.build("idx_1", broken(), STAMP)
    assert store.search("idx_1", ask("hybrid")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["idx_1"]


def test_rests_of_a_killed_build_are_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / ".building-idx_9" / "shard").mkdir(parents=True)
    QdrantEdgeStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rebuilding_and_dropping_disturb_no_running_search(store: QdrantEdgeStore, tmp_path: Path) -> None:
    store.build("idx_1", points(200), STAMP)
    faults: list[Exception] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            try:
                assert len(store.search("idx_1", ask("hybrid"))) == 10
            except NotFound:
                return  # dropped: the only other thing that may happen
            except Exception as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for seed in range(3):
        store.build("idx_1", points(200, seed), STAMP)
    store.drop("idx_1")
    done.set()
    for thread in threads:
        thread.join()
    assert faults == []
    with pytest.raises(NotFound):
        store.search("idx_1", ask("dense"))
    assert list((tmp_path / "indexes").iterdir()) == []


def test_identifiers_are_found_by_their_words_and_whole() -> None:
    encoder = Bm25Encoder(RULE)
    document = set(encoder.document("toolz.unique_everseen(x) uses HTTPServer").indices)
    for query in ("unique", "everseen", "unique_everseen", "toolz", "server", "http"):
        assert set(encoder.query(query).indices) & document, query
    assert not set(encoder.query("ever").indices) & document
