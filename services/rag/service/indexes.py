"""Indexes: find, list and delete them, search them, keep their defaults, take snapshots and restore them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from libs.common.db.engine import Database
from libs.common.db.tables import IndexRow
from libs.common.errors import Conflict, InvalidInput, NotFound
from model_training.contracts.base import Deleted, Page
from model_training.contracts.indexes import Chunk, Index, QueryHit, QueryReply, QueryRequest
from model_training.contracts.jobs import FINAL_STATES, JobState
from model_training.contracts.retrieval import SearchOptions, SnapshotReply
from services.rag import repository
from services.rag.domain import search as rules
from services.rag.domain.passages import document_text
from services.rag.domain.search import Found, SearchPlan
from services.rag.ports import Embedder, Embedders, Rerankers, Search, VectorStore
from services.rag.snapshots import file_hash, read_snapshot, write_snapshot

log = structlog.get_logger(__name__)

SEARCH_SECONDS = Histogram(
    "mt_rag_search_seconds",
    "Time of a search, the question's embedding included.",
    ["mode"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
SEARCH_HITS = Histogram(
    "mt_rag_search_hits", "Passages found by a search.", ["mode"], buckets=(0, 1, 3, 5, 10, 50)
)
RERANK_SECONDS = Histogram(
    "mt_rag_rerank_seconds", "Time of ordering again.", buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30)
)
EMPTY = Counter("mt_rag_empty_searches_total", "Searches that found nothing.", ["mode"])


class Indexes:
    """Indexes of a project and searches in them."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        embedders: Embedders,
        rerankers: Rerankers,
        *,
        snapshots: Path,
    ) -> None:
        self._database = database
        self._store = store
        self._embedders = embedders
        self._rerankers = rerankers
        self._snapshots = snapshots

    def get(self, project_id: str | None, reference: str) -> Index:
        """An index by id or name, also one that is not built yet.

        Raises:
            NotFound: there is none.
        """
        with self._database.session() as session:
            built = repository.find_index(session, project_id, reference)
            job = repository.find_job(session, project_id, built.id if built else reference)
            if job is None or (built is None and job.state == JobState.SUCCEEDED.value):
                raise _no_index(reference, repository.index_names(session, project_id))
            return repository.describe(job, built)

    def list(self, project_id: str | None, after: str | None, limit: int) -> Page[Index]:
        """Indexes, newest first."""
        with self._database.session() as session:
            found = repository.list_indexes(session, project_id, after, limit + 1)
        data = found[:limit]
        return Page[Index](
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=len(found) > limit,
        )

    def delete(self, project_id: str | None, index_id: str) -> Deleted:
        """Delete an index and free its space.

        Raises:
            NotFound: there is none with this id.
            Conflict: it is still being built.
        """
        with self._database.session() as session:
            job = repository.find_job(session, project_id, index_id)
            index = repository.get_index(session, index_id)
            if job is None or (index is None and job.state == JobState.SUCCEEDED.value):
                raise _no_index(index_id, repository.index_names(session, project_id))
            if JobState(job.state) not in FINAL_STATES:
                raise Conflict(
                    f"The index {index_id} is being built ({job.state}).",
                    hint=f"Cancel its job first: POST /v1/jobs/{index_id}/cancel.",
                )
            if index is None:
                raise Conflict(
                    f"The index {index_id} was never built ({job.state}); there is nothing to delete."
                )
            repository.delete_index(session, index)
        self._store.drop(index_id)
        return Deleted(id=index_id, object="index")

    def query(self, project_id: str | None, reference: str, request: QueryRequest) -> QueryReply:
        """Search an index by id or name.

        Raises:
            NotFound: there is no such index, or it is not built.
            InvalidInput: the query is empty.
            Conflict: the index was made by another embedder.
            Unavailable: the embedder is still loading.
        """
        index = self.resolve(project_id, reference)
        text = rules.checked_query(request.query)
        plan = default_plan(index).with_options(request)
        found = self.search(index.id, text, plan, request.limit, rules.checked_filter(request.filter))
        hits = [
            QueryHit(rank=rank, score=hit.score, chunk=hit.chunk) for rank, hit in enumerate(found, start=1)
        ]
        return QueryReply(index=index.id, hits=hits)

    def resolve(self, project_id: str | None, reference: str) -> IndexRow:
        """The built index of an id, or the newest of a name.

        Raises:
            NotFound: there is none; the error names what comes near, or says that it is still being built.
        """
        with self._database.session() as session:
            index = repository.find_index(session, project_id, reference)
            if index is not None:
                return index
            job = repository.find_job(session, project_id, reference)
            if job is not None and job.state != JobState.SUCCEEDED.value:
                raise NotFound(
                    f"The index {reference} cannot be searched; its job is {job.state}.",
                    hint=f"See GET /v1/jobs/{reference}.",
                )
            raise _no_index(reference, repository.index_names(session, project_id))

    def search(
        self,
        index_id: str,
        text: str,
        plan: SearchPlan,
        limit: int,
        wanted: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Found]:
        """Search a built index; `text` and `wanted`, the filter, are checked ones. Raises as `query` does."""
        started = time.perf_counter()
        vector = None
        if plan.mode != "bm25":
            vector = self.embedder(index_id).embed_query(text)
        search = Search(text, vector, plan.mode, plan.pool(limit), plan.fusion, wanted or {})
        found = self._store.search(index_id, replace(search, with_vectors=plan.diversity > 0))
        if plan.rerank is not None:
            found = self._reranked(plan.rerank, text, found)
        if plan.diversity > 0:
            found = rules.diversify(found, plan.diversity, limit)
        SEARCH_SECONDS.labels(plan.mode).observe(time.perf_counter() - started)
        SEARCH_HITS.labels(plan.mode).observe(len(found[:limit]))
        EMPTY.labels(plan.mode).inc(not found)  # none is 0, which is not the same as no figure
        return found[:limit]

    def embedder(self, index_id: str) -> Embedder:
        """The embedder that made an index.

        Raises:
            Conflict: this service has other weights or prefixes under its name.
        """
        made_by = self._store.stamp(index_id)["embedder"]
        embedder = self._embedders.get(made_by["name"])
        ours = asdict(embedder.stamp)
        different = sorted(name for name in ours if made_by.get(name) != ours[name])
        if different:
            raise Conflict(
                f"The index {index_id} was made by {made_by['name']} (revision {made_by['revision'][:12]}), this service "
                f"embeds with {ours['name']} (revision {ours['revision'][:12]}); different: {', '.join(different)}.",
                hint="Build the index again.",
            )
        return embedder

    def chunks(self, index_id: str) -> Iterator[Chunk]:
        """Every passage of a built index, in the order in which they were stored."""
        return (point.chunk for point in self._store.points(index_id))

    def set_defaults(self, index_id: str, options: SearchOptions) -> None:
        """Keep how an index is searched where a request says nothing."""
        with self._database.session() as session:
            repository.save_defaults(session, index_id, options)

    def snapshot(self, project_id: str | None, reference: str) -> SnapshotReply:
        """Write a snapshot of an index to the service's disk.

        Raises:
            NotFound: there is no such index.
        """
        index = self.resolve(project_id, reference)
        name = f"{index.id}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.tar"
        path = self._snapshots / name
        chunks = write_snapshot(self._store, index.id, path)
        return SnapshotReply(
            index=index.id, name=name, bytes=path.stat().st_size, sha256=file_hash(path), chunks=chunks
        )

    def restore(self, project_id: str | None, reference: str, snapshot: str) -> Index:
        """Put an index's passages and vectors back from one of its snapshots; searches see the old until they are there.

        Raises:
            NotFound: there is no such index or snapshot.
            InvalidInput: the snapshot is another index's, or none.
        """
        index = self.resolve(project_id, reference)
        if Path(snapshot).name != snapshot or not snapshot.startswith(f"{index.id}-"):
            raise InvalidInput(
                f"{snapshot!r} is not a snapshot of {index.id}.",
                param="snapshot",
                hint="Give the name that taking the snapshot answered.",
            )
        read_snapshot(self._store, index.id, self._snapshots / snapshot)
        return self.get(project_id, reference)

    def _reranked(self, model: str, text: str, found: list[Found]) -> list[Found]:
        started = time.perf_counter()
        scores = self._rerankers.scores(model, text, [document_text(hit.chunk) for hit in found])
        RERANK_SECONDS.observe(time.perf_counter() - started)
        scored = [replace(hit, score=score) for hit, score in zip(found, scores, strict=True)]
        return sorted(scored, key=lambda hit: -hit.score)


def default_plan(index: IndexRow) -> SearchPlan:
    """How an index is searched where a request says nothing: as it was tuned, else as the platform does."""
    tuned: dict[str, Any] | None = index.stamp.get("search")
    return SearchPlan() if tuned is None else SearchPlan().with_options(SearchOptions.model_validate(tuned))


def _no_index(reference: str, names: Sequence[str]) -> NotFound:
    return NotFound(
        f"There is no index {reference!r}.", param="index", hint=rules.near_names(reference, names)
    )
