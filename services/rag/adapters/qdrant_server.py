"""Vectors in a Qdrant server, through `qdrant-client`: one collection an index, reached by an alias.

An index is built in a collection with a name of its own; one call moves the alias to it when it is complete, so that a
half-built one is never seen and a rebuild switches at once. The stamp is the collection's metadata. Several retrieval
services may share a server. (The client's own local mode is not used: it is not thread-safe.)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from libs.common.errors import NotFound, PlatformError, Unavailable, UpstreamFailed
from model_training.contracts.indexes import Chunk
from services.rag.adapters.bm25 import Bm25Encoder, Bm25Rule
from services.rag.domain.search import FILTER_FIELDS, Found, filter_payload
from services.rag.ports import IndexPoint, Search, SparseRow

DENSE = "dense"
BM25 = "bm25"
FILTERS = "filter"
CHUNK = "chunk"
POINTS_A_WRITE = 500
SCAN_LIMIT = 200_000
OVERSAMPLING = 3.0
NOT_FOUND = 404


class QdrantServerStore:
    """All indexes in one server. Every method may be called from any thread.

    Raises:
        Unavailable: any method, when the server does not answer.
        UpstreamFailed: any method, when it refuses.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, prefix: str = "mt", timeout_s: int = 60
    ) -> None:
        self._client = QdrantClient(
            url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False, prefer_grpc=False
        )
        self._prefix = prefix
        self._encoders: dict[str, Bm25Encoder] = {}

    def build(self, index_id: str, points: Iterable[IndexPoint], stamp: dict[str, Any]) -> int:
        """Store an index, replacing one of the same id; returns the number of passages."""
        collection = f"{self._alias(index_id)}-{uuid.uuid4().hex[:8]}"
        try:
            self._create(collection, stamp)
            count = self._fill(collection, points)
            others = self._collections(index_id) - {collection}
            self._switch(index_id, collection)
            self._encoders.pop(index_id, None)
        except BaseException as error:
            self._remove({collection})
            raise _translated(error) from error
        self._remove(others)  # the former version, and what a killed build left
        return count

    def stamp(self, index_id: str) -> dict[str, Any]:
        """What the index was built with.

        Raises:
            NotFound: there is no such index.
        """
        try:
            info = self._client.get_collection(self._alias(index_id))
        except Exception as error:
            raise _translated(error, index_id) from error
        return dict(info.config.metadata or {})

    def search(self, index_id: str, search: Search) -> list[Found]:
        """Passages, best first.

        Raises:
            NotFound: there is no such index.
        """
        bm25 = self._encoder(index_id)
        try:
            points = self._client.query_points(self._alias(index_id), **_request(search, bm25)).points
        except Exception as error:
            raise _translated(error, index_id) from error
        return [
            Found(
                Chunk.model_validate((point.payload or {})[CHUNK]),
                point.score,
                _vectors(point)[DENSE] if search.with_vectors else None,
            )
            for point in points
        ]

    def points(self, index_id: str) -> Iterator[IndexPoint]:
        """Every passage with its vectors, in the order in which they were stored.

        Raises:
            NotFound: there is no such index.
        """
        offset: Any = None
        while True:
            try:
                records, offset = self._client.scroll(
                    self._alias(index_id),
                    limit=POINTS_A_WRITE,
                    offset=offset,
                    with_payload=True,
                    with_vectors=True,
                )
            except Exception as error:
                raise _translated(error, index_id) from error
            for record in records:
                vectors = _vectors(record)
                sparse = vectors[BM25]
                yield IndexPoint(
                    Chunk.model_validate((record.payload or {})[CHUNK]),
                    vectors[DENSE],
                    SparseRow(sparse.indices, sparse.values),
                )
            if offset is None:
                return

    def drop(self, index_id: str) -> None:
        """Remove an index and free its space; nothing happens if it is not there."""
        self._encoders.pop(index_id, None)
        try:
            gone = self._collections(index_id)
            if self._target(index_id) is not None:
                alias = models.DeleteAlias(alias_name=self._alias(index_id))
                self._client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=alias)])
            self._remove(gone)
        except Exception as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _alias(self, index_id: str) -> str:
        return f"{self._prefix}-{index_id}"

    def _encoder(self, index_id: str) -> Bm25Encoder:
        """The encoder of an index, remembered: an index is rebuilt under its id only before it is published."""
        known = self._encoders.get(index_id)
        if known is None:
            known = self._encoders[index_id] = Bm25Encoder(Bm25Rule(**self.stamp(index_id)["bm25"]))
        return known

    def _create(self, collection: str, stamp: dict[str, Any]) -> None:
        graph = stamp.get("chunks", 0) > SCAN_LIMIT
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        self._client.create_collection(
            collection,
            vectors_config={
                DENSE: models.VectorParams(
                    size=stamp["embedder"]["dimension"], distance=models.Distance.COSINE
                )
            },
            sparse_vectors_config={BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            hnsw_config=models.HnswConfigDiff(m=16 if graph else 0),
            quantization_config=None if graph else models.ScalarQuantization(scalar=int8),
            strict_mode_config=models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False),
            metadata=stamp,
        )
        for (
            name
        ) in FILTER_FIELDS:  # before the first passage: the graph is built with the indexes that are there
            self._client.create_payload_index(
                collection, f"{FILTERS}.{name}", models.PayloadSchemaType.KEYWORD, wait=True
            )

    def _fill(self, collection: str, points: Iterable[IndexPoint]) -> int:
        count = 0
        iterator = iter(points)
        while group := list(islice(iterator, POINTS_A_WRITE)):
            self._client.upsert(
                collection, [_point(count + offset, point) for offset, point in enumerate(group)], wait=True
            )
            count += len(group)
        return count

    def _switch(self, index_id: str, collection: str) -> None:
        alias = self._alias(index_id)
        operations: list[Any] = []
        if self._target(index_id) is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        create = models.CreateAlias(collection_name=collection, alias_name=alias)
        self._client.update_collection_aliases(
            [*operations, models.CreateAliasOperation(create_alias=create)]
        )

    def _target(self, index_id: str) -> str | None:
        alias = self._alias(index_id)
        known = self._client.get_aliases().aliases
        return next((entry.collection_name for entry in known if entry.alias_name == alias), None)

    def _collections(self, index_id: str) -> set[str]:
        """Every collection of an index, complete or not."""
        start = f"{self._alias(index_id)}-"
        return {
            entry.name for entry in self._client.get_collections().collections if entry.name.startswith(start)
        }

    def _remove(self, collections: set[str]) -> None:
        for name in collections:
            self._client.delete_collection(name)


def _vectors(record: models.ScoredPoint | models.Record) -> dict[str, Any]:
    assert isinstance(record.vector, dict)
    return record.vector


def _point(number: int, point: IndexPoint) -> models.PointStruct:
    sparse = models.SparseVector(indices=point.sparse.indices, values=point.sparse.values)
    return models.PointStruct(
        id=number,
        vector={DENSE: point.dense, BM25: sparse},
        payload={
            CHUNK: point.chunk.model_dump(mode="json", exclude_none=True),
            FILTERS: filter_payload(point.chunk),
        },
    )


def _request(search: Search, bm25: Bm25Encoder) -> dict[str, Any]:
    common: dict[str, Any] = {
        "limit": search.limit,
        "with_payload": models.PayloadSelectorInclude(include=[CHUNK]),
        "with_vectors": search.with_vectors,
    }
    if search.mode != "hybrid":
        leg = _leg(search, bm25, search.mode)
        return common | {
            "query": leg["query"],
            "using": leg["using"],
            "query_filter": leg["filter"],
            "search_params": leg["params"],
        }
    rule = search.fusion
    fusion: Any = models.FusionQuery(fusion=models.Fusion.DBSF)
    if rule.method == "rrf":
        fusion = models.RrfQuery(rrf=models.Rrf(k=rule.k, weights=[rule.dense_weight, rule.bm25_weight]))
    depth = max(rule.depth, search.limit)
    legs = [models.Prefetch(limit=depth, **_leg(search, bm25, mode)) for mode in ("dense", "bm25")]
    return common | {"query": fusion, "prefetch": legs}


def _leg(search: Search, bm25: Bm25Encoder, mode: str) -> dict[str, Any]:
    """Query, filter and parameters of one of the two lists."""
    query: Any = search.vector
    if mode == "bm25":
        row = bm25.query(search.text)
        query = models.SparseVector(indices=row.indices, values=row.values)
    conditions: list[Any] = [
        models.FieldCondition(key=f"{FILTERS}.{name}", match=models.MatchAny(any=list(values)))
        for name, values in search.filter.items()
    ]
    quantised = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    return {
        "query": query,
        "using": mode,
        "filter": models.Filter(must=conditions) if conditions else None,
        "params": models.SearchParams(exact=search.exact, quantization=quantised),
    }


def _translated(error: BaseException, index_id: str | None = None) -> BaseException:
    """The client's error as one of the platform's; other errors as they are."""
    match error:
        case PlatformError():
            return error
        case UnexpectedResponse() if error.status_code == NOT_FOUND and index_id is not None:
            return NotFound(f"The index {index_id} has no vectors here.", hint="Build the index again.")
        case UnexpectedResponse():
            return UpstreamFailed(f"The vector store refused: {error.status_code} {error.content[:300]!r}.")
        case ResponseHandlingException() | ApiException():
            return Unavailable(
                f"The vector store does not answer ({type(error).__name__}).",
                hint="Try again shortly.",
                retry_after_s=2,
            )
        case _:
            return error
