"""Vectors in Qdrant's own engine, in this process: one shard directory an index, written once and then only read.

An index is built under another name beside its place and moved there when it is complete, so that a half-built one is
never seen. Only one process may open a shard: the retrieval service.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from libs.common.errors import NotFound
from model_training.contracts.indexes import Chunk
from services.rag.domain import Found
from services.rag.ports import IndexPoint, Search, SparseRow

DENSE = "dense"
BM25 = "bm25"
STAMP = "stamp.json"
SHARD = "shard"
BUILDING = ".building-"
POINTS_A_WRITE = 256


@dataclass(frozen=True)
class Bm25Rule:
    """How text becomes BM25 weights. `average_length` is in words and comes from the passages themselves.

    The `code` tokenizer splits identifiers (`chunked_even`, `HTTPServer`) into their words and keeps them whole as well.
    Documentation repeats a function's name because the passage is about it, hence `k` above and `b` below the usual.
    """

    k: float = 2.0
    b: float = 0.5
    average_length: float = 256.0
    language: str = "english"
    tokenizer: str = "code"


class Bm25Encoder:
    """BM25 weights of texts. Inverse document frequency is the index's to know and is applied there."""

    def __init__(self, rule: Bm25Rule) -> None:
        config = qdrant.Bm25Config(
            k=rule.k,
            b=rule.b,
            avg_len=rule.average_length,
            language=rule.language,
            tokenizer=getattr(qdrant.TokenizerType, rule.tokenizer.capitalize()),
        )
        self._model = qdrant.Bm25(config)

    def document(self, text: str) -> SparseRow:
        """The weights of a passage."""
        vector = self._model.embed_document(text)
        return SparseRow(vector.indices, vector.values)

    def query(self, text: str) -> SparseRow:
        """The weights of a question: one for every different word; none if it has only stop words."""
        vector = self._model.embed_query(text)
        return SparseRow(vector.indices, vector.values)


@dataclass(frozen=True)
class _Open:
    shard: Any
    stamp: dict[str, Any]
    bm25: Bm25Encoder


class QdrantEdgeStore:
    """All indexes under one directory. Every method may be called from any thread."""

    def __init__(self, root: Path, *, search_threads: int = 1) -> None:
        self._root = root
        self._search_threads = search_threads
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        for unfinished in root.glob(f"{BUILDING}*"):
            shutil.rmtree(unfinished)

    def build(self, index_id: str, points: Iterable[IndexPoint], stamp: dict[str, Any]) -> int:
        """Store an index, replacing one of the same id; returns the number of passages.

        Args:
            stamp: kept with the index; `stamp["embedder"]["dimension"]` and `stamp["bm25"]` are used here.
        """
        building = self._root / f"{BUILDING}{index_id}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            count = self._write(building / SHARD, points, stamp["embedder"]["dimension"])
            (building / STAMP).write_text(json.dumps(stamp, indent=2), encoding="utf-8")
            self.drop(index_id)
            os.replace(building, self._root / index_id)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return count

    def stamp(self, index_id: str) -> dict[str, Any]:
        """What the index was built with.

        Raises:
            NotFound: there is no such index.
        """
        return self._opened(index_id).stamp

    def search(self, index_id: str, search: Search) -> list[Found]:
        """Passages, best first.

        Raises:
            NotFound: there is no such index.
        """
        index = self._opened(index_id)
        points = index.shard.query(_request(search, index.bm25))
        return [Found(Chunk.model_validate(point.payload), point.score) for point in points]

    def drop(self, index_id: str) -> None:
        """Remove an index and free its space; nothing happens if it is not there.

        A search that runs at this moment still holds the shard and ends in peace.
        """
        with self._lock:
            self._open.pop(index_id, None)
            path = self._root / index_id
            if path.exists():
                doomed = self._root / f"{BUILDING}dropped-{index_id}"
                os.replace(path, doomed)  # gone at once, even if removing takes a while or is interrupted
                shutil.rmtree(doomed)

    def _write(self, path: Path, points: Iterable[IndexPoint], dimension: int) -> int:
        shard = qdrant.EdgeShard.create(str(path), _config(dimension, self._search_threads))
        count = 0
        for group in _groups(points, POINTS_A_WRITE):
            shard.update(
                qdrant.UpdateOperation.upsert_points(
                    [_point(count + offset, point) for offset, point in enumerate(group)]
                )
            )
            count += len(group)
        shard.optimize()
        shard.flush()
        shard.close()
        return count

    def _opened(self, index_id: str) -> _Open:
        known = self._open.get(index_id)
        if known is not None:
            return known
        with self._lock:
            if index_id not in self._open:
                self._open[index_id] = self._load(self._root / index_id)
            return self._open[index_id]

    def _load(self, path: Path) -> _Open:
        if not (path / STAMP).exists():
            raise NotFound(f"The index {path.name} has no vectors here.", hint="Build the index again.")
        stamp: dict[str, Any] = json.loads((path / STAMP).read_text(encoding="utf-8"))
        shard = qdrant.EdgeShard.load(str(path / SHARD))
        return _Open(shard, stamp, Bm25Encoder(Bm25Rule(**stamp["bm25"])))


def bm25_stamp(rule: Bm25Rule) -> dict[str, Any]:
    """The rule as it stands in a stamp."""
    return asdict(rule)


def _config(dimension: int, search_threads: int) -> Any:
    return qdrant.EdgeConfig(
        vectors={DENSE: qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Cosine)},
        sparse_vectors={BM25: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        max_search_threads=search_threads,
        wal_enabled=False,  # an index is complete or not there; a log of its making helps nobody
    )


def _point(number: int, point: IndexPoint) -> Any:
    return qdrant.Point(
        number,
        {DENSE: point.dense, BM25: qdrant.SparseVector(point.sparse.indices, point.sparse.values)},
        point.chunk.model_dump(mode="json", exclude_none=True),
    )


def _request(search: Search, bm25: Bm25Encoder) -> Any:
    if search.mode == "dense":
        return qdrant.QueryRequest(limit=search.limit, query=_dense_query(search), with_payload=True)
    if search.mode == "bm25":
        return qdrant.QueryRequest(limit=search.limit, query=_sparse_query(search, bm25), with_payload=True)
    rule = search.fusion
    depth = max(rule.depth, search.limit)
    fusion: Any = qdrant.Fusion.Rrf(k=rule.k, weights=[rule.dense_weight, rule.bm25_weight])
    return qdrant.QueryRequest(
        limit=search.limit,
        query=fusion,
        prefetches=[
            qdrant.Prefetch(limit=depth, query=_dense_query(search)),
            qdrant.Prefetch(limit=depth, query=_sparse_query(search, bm25)),
        ],
        with_payload=True,
    )


def _dense_query(search: Search) -> qdrant.Query:
    assert search.vector is not None, f"mode {search.mode} needs the question's vector"
    return qdrant.Query.Nearest(search.vector, using=DENSE)


def _sparse_query(search: Search, bm25: Bm25Encoder) -> qdrant.Query:
    row = bm25.query(search.text)
    return qdrant.Query.Nearest(qdrant.SparseVector(row.indices, row.values), using=BM25)


def _groups(points: Iterable[IndexPoint], size: int) -> Iterator[list[IndexPoint]]:
    iterator = iter(points)
    while group := list(islice(iterator, size)):
        yield group
