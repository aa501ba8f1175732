"""HTTP routes of the retrieval service. Each parses, calls one use case and returns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from libs.common.auth import require_internal
from libs.common.errors import PlatformError
from model_training.contracts.base import Deleted, Page
from model_training.contracts.chat import ChatReply, ChatRequest
from model_training.contracts.indexes import Index, QueryReply, QueryRequest
from services.rag.service import Answers, Indexes

log = structlog.get_logger(__name__)

Project = Annotated[
    str | None,
    Header(
        alias="x-mt-project",
        description="Whose indexes. The gateway states it, or has checked the id and leaves it out.",
    ),
]


def make_router(indexes: Indexes, answers: Answers, internal_token: str) -> APIRouter:
    """The routes, for other services only."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_internal(internal_token))])

    @router.get("/indexes", summary="List indexes")
    def list_indexes(
        after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20, project: Project = None
    ) -> Page[Index]:
        return indexes.list(project, after, limit)

    @router.get("/indexes/{index}", summary="One index, by id or name")
    def get_index(index: str, project: Project = None) -> Index:
        return indexes.get(project, index)

    @router.delete("/indexes/{index}", summary="Delete an index, by id")
    def delete_index(index: str, project: Project = None) -> Deleted:
        return indexes.delete(project, index)

    @router.post("/indexes/{index}/query", summary="Search an index, by id or name")
    def query_index(index: str, request: QueryRequest, project: Project = None) -> QueryReply:
        return indexes.query(project, index, request)

    @router.post("/chat/completions", summary="Answer with sources", response_model=ChatReply)
    async def chat(request: ChatRequest, project: Project = None) -> Response:
        if not request.stream:
            return JSONResponse(await answers.answer(project, request))
        pieces = await answers.stream(project, request)
        return StreamingResponse(_events(pieces), media_type="text/event-stream")

    return router


async def _events(pieces: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """The pieces as server-sent events; a failure on the way is the last event, since the status is long sent."""
    try:
        async for piece in pieces:
            yield f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"
    except PlatformError as error:
        log.warning("stream_broken", error=error.detail)
        problem = error.problem()
        body = {"error": {"message": problem.detail, "type": "server_error", "code": problem.code}}
        yield f"data: {json.dumps(body)}\n\n"
        return
    yield "data: [DONE]\n\n"
