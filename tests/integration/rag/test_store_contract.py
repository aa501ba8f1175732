"""One suite for both vector stores: Qdrant's engine in process, and a Qdrant server over HTTP.

The server is the one that `MT_TEST_QDRANT_URL` names, else the stand-in of `qdrant_http`.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import NotFound, Unavailable, UpstreamFailed
from model_training.contracts.indexes import Chunk, Source
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule, bm25_stamp
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.adapters.qdrant_server import QdrantServerStore
from services.rag.domain.search import FILTER_FIELDS, Found, FusionRule
from services.rag.main import make_store
from services.rag.ports import IndexPoint, Search, VectorStore
from services.rag.settings import RagSettings
from services.rag.snapshots import read_snapshot, write_snapshot
from tests.conftest import free_ports
from tests.integration.rag.qdrant_http import FakeQdrant, serving

DIMENSION = 16
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
MODES = ("dense", "bm25", "hybrid")


def points(count: int, seed: int = 0) -> list[IndexPoint]:
    rng = random.Random(seed)
    encoder = Bm25Encoder(RULE)
    made: list[IndexPoint] = []
    for number in range(count):
        # No two passages are of one length, so that no two have the same score: equal ones come in any order.
        text = " ".join([*rng.sample(WORDS, 4), *["filler"] * number])
        source = Source(package=f"p{number % 3}", path=f"a/{number % 10}.py", line_start=number + 1)
        chunk = Chunk(
            id=f"c{number}",
            title=f"t{number}",
            text=text,
            functions=[f"p.f{number % 7}", f"p.g{number % 5}"],
            title_path=["P", f"S{number % 4}"],
            source=source,
        )
        vector = [rng.gauss(0, 1) for _ in range(DIMENSION)]
        norm = math.sqrt(sum(x * x for x in vector))
        made.append(IndexPoint(chunk, [x / norm for x in vector], encoder.document(text)))
    return made


def ask(mode: str, *, limit: int = 10, text: str = "merge the windows", **more: Any) -> Search:
    rng = random.Random(99)
    vector = [rng.gauss(0, 1) for _ in range(DIMENSION)]
    return Search(text, vector, mode, limit, more.pop("rule", FusionRule()), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, FakeQdrant | None]]:
    real = os.environ.get("MT_TEST_QDRANT_URL")
    if real is not None:
        yield real, None
        return
    with serving() as running:
        yield running


@pytest.fixture
def edge(tmp_path: Path) -> QdrantEdgeStore:
    return QdrantEdgeStore(tmp_path / "indexes")


@pytest.fixture
def remote(server: tuple[str, FakeQdrant | None]) -> Iterator[QdrantServerStore]:
    store = QdrantServerStore(server[0], prefix=f"t{uuid.uuid4().hex[:8]}")
    yield store
    for name in ("idx_1", "idx_2"):
        store.drop(name)
    store.close()


@pytest.fixture(params=["edge", "remote"])
def store(request: pytest.FixtureRequest) -> VectorStore:
    return request.getfixturevalue(request.param)


def test_both_stores_rank_alike(edge: QdrantEdgeStore, remote: QdrantServerStore) -> None:
    made = points(150)
    for one in (edge, remote):
        assert one.build("idx_1", iter(made), STAMP) == 150
    rules = [FusionRule(), FusionRule(k=60, dense_weight=3.0), FusionRule(method="dbsf")]
    filters = [{}, {"package": ["p1"]}, {"functions": ["p.f1", "p.f2"], "package": ["p0"]}]
    for mode, rule, wanted in itertools.product(MODES, rules, filters):
        search = ask(mode, limit=20, rule=rule, filter=wanted)
        found, other = edge.search("idx_1", search), remote.search("idx_1", search)
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in other], rel=1e-5)
        # Passages of equal fused score may change places; nothing else may.
        last = min(hit.score for hit in found)
        assert _above(found, last) == _above(other, last), (mode, rule, wanted)


def _above(found: list[Found], score: float) -> set[tuple[str, float]]:
    return {(hit.chunk.id, round(hit.score, 4)) for hit in found if hit.score > score * (1 + 1e-5)}


def test_a_filter_holds_for_every_way_to_search(store: VectorStore) -> None:
    made = points(80)
    store.build("idx_1", made, STAMP)
    values: dict[str, Any] = {
        "id": ["c7", "c8"],
        "title_path": ["S2"],
        "functions": ["p.g3"],
        "package": ["p0", "p2"],
        "path": ["a/4.py"],
        "version": ["1.0"],
        "kind": ["doctest"],
    }
    assert set(values) == set(FILTER_FIELDS)
    for name, wanted in values.items():
        expected = {
            point.chunk.id
            for point in made
            if set(wanted)
            & set(
                {
                    "id": [point.chunk.id],
                    "title_path": point.chunk.title_path,
                    "functions": point.chunk.functions,
                    "package": [point.chunk.source.package],
                    "path": [point.chunk.source.path],
                }.get(name, [])
            )
        }
        found = store.search("idx_1", ask("dense", limit=200, filter={name: wanted}))
        assert {hit.chunk.id for hit in found} == expected, name
        for mode in ("bm25", "hybrid"):
            found = store.search("idx_1", ask(mode, limit=200, filter={name: wanted}, text=" ".join(WORDS)))
            assert {hit.chunk.id for hit in found} == expected, (name, mode)


def test_what_was_stored_comes_back_whole_and_in_order(store: VectorStore) -> None:
    made = points(510, seed=3)  # more than one write to a server
    store.build("idx_1", iter(made), STAMP)
    assert store.stamp("idx_1") == STAMP
    back = list(store.points("idx_1"))
    assert [point.chunk for point in back] == [point.chunk for point in made]
    for ours, theirs in zip(made, back, strict=True):
        assert list(theirs.dense) == pytest.approx(ours.dense, abs=1e-6)
        weights = dict(zip(theirs.sparse.indices, theirs.sparse.values, strict=True))
        assert weights == pytest.approx(dict(zip(ours.sparse.indices, ours.sparse.values, strict=True)))


def test_vectors_come_when_they_are_asked_for(store: VectorStore) -> None:
    made = points(30)
    store.build("idx_1", made, STAMP)
    by_id = {point.chunk.id: point.dense for point in made}
    for mode in MODES:
        for hit in store.search("idx_1", ask(mode, with_vectors=True)):
            assert hit.vector is not None
            assert list(hit.vector) == pytest.approx(by_id[hit.chunk.id], abs=1e-6)
        assert all(hit.vector is None for hit in store.search("idx_1", ask(mode)))


def test_building_again_replaces_and_dropping_removes(store: VectorStore) -> None:
    store.build("idx_1", points(50), STAMP)
    store.build("idx_2", points(10, seed=5), STAMP)
    store.build("idx_1", points(20, seed=1), STAMP | {"format": 2})
    assert store.stamp("idx_1")["format"] == 2
    assert len(store.search("idx_1", ask("dense", limit=100))) == 20
    store.drop("idx_1")
    store.drop("idx_1")
    for use in (lambda: store.search("idx_1", ask("dense")), lambda: store.stamp("idx_1")):
        with pytest.raises(NotFound, match="idx_1"):
            use()
    with pytest.raises(NotFound, match="idx_1"):
        list(store.points("idx_1"))
    assert len(store.search("idx_2", ask("dense", limit=100))) == 10


def test_a_build_that_fails_leaves_the_old_index(store: VectorStore) -> None:
    store.build("idx_1", points(50), STAMP)
    before = store.search("idx_1", ask("hybrid"))

    def broken() -> Iterator[IndexPoint]:
        yield from points(600, seed=1)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk"):
        store.build("idx_1", broken(), STAMP)
    assert store.search("idx_1", ask("hybrid")) == before


@pytest.mark.parametrize(("source", "target"), [("edge", "remote"), ("remote", "edge"), ("edge", "edge")])
def test_a_snapshot_restores_into_either_store(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, target: str
) -> None:
    taken: VectorStore = request.getfixturevalue(source)
    put: VectorStore = request.getfixturevalue(target)
    taken.build("idx_1", points(100), STAMP | {"chunks": 100})
    searches = [ask(mode, limit=20) for mode in MODES]
    before = [[hit.score for hit in taken.search("idx_1", search)] for search in searches]
    assert write_snapshot(taken, "idx_1", tmp_path / "s.tar") == 100
    taken.drop("idx_1")
    stamp, count = read_snapshot(put, "idx_1", tmp_path / "s.tar")
    assert (stamp, count) == (STAMP | {"chunks": 100}, 100)
    after = [[hit.score for hit in put.search("idx_1", search)] for search in searches]
    assert after == [pytest.approx(scores, rel=1e-5) for scores in before]


def test_filters_are_indexed_before_the_first_passage_and_leftovers_go(
    remote: QdrantServerStore, server: tuple[str, FakeQdrant | None]
) -> None:
    fake = server[1]
    if fake is None:
        pytest.skip("looks into the stand-in")
    fake.fail_upserts_after = fake.upserts + 1
    before = fake.upserts
    with pytest.raises(UpstreamFailed, match="No space left"):
        remote.build("idx_1", points(510), STAMP)
    fake.fail_upserts_after = None
    assert not [name for name in fake.shards if "idx_1" in name]
    fake.create(f"{remote._alias('idx_1')}-killed", {"vectors": {"dense": {"size": 4}}})
    remote.build("idx_1", points(10), STAMP)
    assert len([name for name in fake.shards if remote._alias("idx_1") in name]) == 1
    (collection,) = (name for name in fake.shards if remote._alias("idx_1") in name)
    assert {name for name, _ in fake.indexed[collection]} == {f"filter.{name}" for name in FILTER_FIELDS}
    assert {upserts for _, upserts in fake.indexed[collection]} == {before + 2}
    assert fake.configs[collection]["strict_mode_config"]["unindexed_filtering_retrieve"] is False


def test_a_server_that_is_gone_is_said_so() -> None:
    store = QdrantServerStore(f"http://127.0.0.1:{free_ports(1)}", timeout_s=5)
    with pytest.raises(Unavailable, match="does not answer"):
        store.search("idx_1", replace(ask("dense")))
    store.close()


def test_the_settings_choose_the_store(
    tmp_path: Path, server: tuple[str, FakeQdrant | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "MT_HOME": str(tmp_path),
        "MT_DATABASE_URL": "postgresql+psycopg://x",
        "MT_BROKER_URL": "redis://x",
        "MT_INTERNAL_TOKEN": "x" * 32,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert isinstance(make_store(RagSettings()), QdrantEdgeStore)  # type: ignore[call-arg]
    monkeypatch.setenv("MT_QDRANT_URL", server[0])
    store = make_store(RagSettings())  # type: ignore[call-arg]
    assert isinstance(store, QdrantServerStore)
    with pytest.raises(NotFound):
        store.stamp("idx_nothing")
    store.close()
