"""Retrieval indexes."""

from __future__ import annotations

from typing import Literal

from model_training.client.transport import Transport
from model_training.contracts.base import Page
from model_training.contracts.indexes import Index, IndexCreate, QueryReply, QueryRequest


class Indexes:
    """`/v1/indexes`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, files: list[str], *, metadata: dict[str, str] | None = None) -> Index:
        """Queue the building of an index from uploaded files of purpose `chunks`."""
        body = IndexCreate(name=name, files=files, metadata=metadata or {})
        return self._transport.create(Index, "/v1/indexes", body)

    def get(self, index_id: str) -> Index:
        """One index."""
        return self._transport.get(Index, f"/v1/indexes/{index_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Index]:
        """One page, newest first."""
        return self._transport.get(Page[Index], "/v1/indexes", {"after": after, "limit": limit})

    def query(
        self,
        index_id: str,
        query: str,
        *,
        limit: int = 5,
        mode: Literal["hybrid", "dense", "bm25"] = "hybrid",
    ) -> QueryReply:
        """Search an index, by id or name."""
        body = QueryRequest(query=query, limit=limit, mode=mode)
        response = self._transport.request(
            "POST", f"/v1/indexes/{index_id}/query", json=body.model_dump(mode="json")
        )
        return QueryReply.model_validate_json(response.content)
