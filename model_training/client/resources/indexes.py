"""Retrieval indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from model_training.client.transport import Transport
from model_training.contracts.base import Deleted, Page
from model_training.contracts.indexes import Index, IndexCreate, Passages, QueryReply, QueryRequest
from model_training.contracts.retrieval import (
    FilterValue,
    LabelledQuestion,
    RestoreRequest,
    RetrievalEvaluate,
    RetrievalReport,
    RetrievalTune,
    SearchOptions,
    SnapshotReply,
    TuneReport,
)

Answer = TypeVar("Answer", bound=BaseModel)
LONG_S = 600.0


class Indexes:
    """`/v1/indexes`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        files: list[str],
        *,
        embedder: str = "all-minilm-l6-v2",
        chunker: str = "as uploaded",
        metadata: dict[str, str] | None = None,
    ) -> Index:
        """Queue the building of an index, or of the next version of a name, from uploaded files of purpose `chunks`."""
        body = IndexCreate(
            name=name, files=files, embedder=embedder, chunker=chunker, metadata=metadata or {}
        )
        return self._transport.create(Index, "/v1/indexes", body)

    def change(self, base: Index, *, files: list[str], remove: list[str], chunker: str) -> Index:
        """Queue the next version of an index: passages of the files added or replaced by id, ids or paths removed."""
        body = IndexCreate(
            name=base.name,
            files=files,
            embedder=base.embedder,
            chunker=chunker,
            base=base.id,
            remove=remove,
        )
        return self._transport.create(Index, "/v1/indexes", body)

    def get(self, index_id: str) -> Index:
        """One index."""
        return self._transport.get(Index, f"/v1/indexes/{index_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Index]:
        """One page, newest first."""
        return self._transport.get(Page[Index], "/v1/indexes", {"after": after, "limit": limit})

    def passages(self, index_id: str, *, text: str = "", offset: int = 0, limit: int = 20) -> Passages:
        """What is in an index, in the order in which it was stored; those that hold a text."""
        params = {"text": text, "offset": offset, "limit": limit}
        return self._transport.get(Passages, f"/v1/indexes/{index_id}/passages", params)

    def query(
        self,
        index_id: str,
        query: str,
        *,
        limit: int = 5,
        mode: Literal["hybrid", "dense", "bm25"] | None = None,
        filter: Mapping[str, FilterValue] | None = None,
        options: SearchOptions | None = None,
    ) -> QueryReply:
        """Search an index, by id or name; what is not said is the index's own default."""
        said: dict[str, Any] = (options or SearchOptions()).model_dump()
        if mode is not None:
            said["mode"] = mode
        body = QueryRequest(query=query, limit=limit, filter=dict(filter or {}), **said)
        return self._ask(QueryReply, index_id, "query", body)

    def evaluate(
        self,
        index_id: str,
        questions: list[LabelledQuestion],
        *,
        k: int = 10,
        options: SearchOptions | None = None,
    ) -> RetrievalReport:
        """How well a search finds what labelled questions want."""
        body = RetrievalEvaluate(questions=questions, k=k, **(options or SearchOptions()).model_dump())
        return self._ask(RetrievalReport, index_id, "evaluate", body, timeout_s=LONG_S)

    def tune(
        self,
        index_id: str,
        questions: list[LabelledQuestion],
        *,
        k: int = 5,
        metric: Literal["ndcg", "recall", "mrr"] = "ndcg",
        store: bool = True,
    ) -> TuneReport:
        """Choose how an index is searched, on labelled questions."""
        body = RetrievalTune(questions=questions, k=k, metric=metric, store=store)
        return self._ask(TuneReport, index_id, "tune", body, timeout_s=LONG_S)

    def delete(self, index_id: str) -> Deleted:
        """Delete one version of an index."""
        return self._transport.delete(Deleted, f"/v1/indexes/{index_id}")

    def snapshot(self, index_id: str) -> SnapshotReply:
        """Write a snapshot on the service's disk."""
        response = self._transport.request("POST", f"/v1/indexes/{index_id}/snapshot", timeout_s=LONG_S)
        return SnapshotReply.model_validate_json(response.content)

    def restore(self, index_id: str, snapshot: str) -> Index:
        """Put an index back from a snapshot."""
        body = RestoreRequest(snapshot=snapshot)
        return self._ask(Index, index_id, "load_snapshot", body, timeout_s=LONG_S)

    def _ask(
        self,
        reply: type[Answer],
        index_id: str,
        what: str,
        body: BaseModel,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        response = self._transport.request(
            "POST",
            f"/v1/indexes/{index_id}/{what}",
            json=body.model_dump(mode="json", exclude_none=True),
            timeout_s=timeout_s,
        )
        return reply.model_validate_json(response.content)
