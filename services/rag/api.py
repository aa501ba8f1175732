"""HTTP routes of the retrieval service. Each parses, calls one use case and returns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from libs.common.auth import require_internal
from libs.common.disconnect import CLIENT_LEFT, unless_disconnected
from libs.common.errors import PlatformError
from libs.common.live_samples import HEADER, LiveSamples
from model_training.contracts.base import Deleted, Page, Reply
from model_training.contracts.chat import ChatReply, ChatRequest
from model_training.contracts.embeddings import EmbeddingReply, EmbeddingRequest
from model_training.contracts.indexes import Index, Passages, QueryReply, QueryRequest
from model_training.contracts.retrieval import (
    RestoreRequest,
    RetrievalEvaluate,
    RetrievalReport,
    RetrievalTune,
    SnapshotReply,
    TuneReport,
)
from services.rag.service.answers import Answers
from services.rag.service.browsing import browse
from services.rag.service.embeddings import Embeddings
from services.rag.service.indexes import Indexes
from services.rag.service.listening import Listener
from services.rag.service.measuring import Measuring

log = structlog.get_logger(__name__)


Project = Annotated[
    str | None,
    Header(
        alias="x-mt-project",
        description="Whose indexes. The gateway states it, or has checked the id and leaves it out.",
    ),
]


def make_router(
    indexes: Indexes,
    answers: Answers,
    measuring: Measuring,
    internal_token: str,
    samples: LiveSamples | None = None,
    embeddings: Embeddings | None = None,
) -> APIRouter:
    """The routes, for other services only."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_internal(internal_token))])
    _add_upkeep(router, indexes, measuring)
    if embeddings is not None:
        _add_embeddings(router, embeddings)

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

    @router.post(
        "/indexes/{index}/query", summary="Search an index, by id or name", response_model=QueryReply
    )
    def query_index(index: str, request: QueryRequest, project: Project = None) -> Response:
        return _written(indexes.query(project, index, request))

    @router.post("/chat/completions", summary="Answer with sources", response_model=ChatReply)
    async def chat(http: Request, request: ChatRequest, project: Project = None) -> Response:
        listener = Listener(samples, http.headers.get(HEADER), request)
        if not request.stream:
            reply = await unless_disconnected(http, answers.answer(project, request))
            if reply is None:
                return Response(status_code=CLIENT_LEFT)
            listener.hear(reply)
            listener.tell()
            return JSONResponse(reply)
        pieces = await answers.stream(project, request)
        return StreamingResponse(_events(listener.follow(pieces)), media_type="text/event-stream")

    return router


def _add_embeddings(router: APIRouter, embeddings: Embeddings) -> None:
    """Vectors of clients' own texts."""

    @router.post("/embeddings", summary="Embed texts", response_model=EmbeddingReply)
    def embed(request: EmbeddingRequest) -> Response:
        return _written(embeddings.embed(request))


def _written(reply: Reply) -> Response:
    """The reply as JSON at once: FastAPI would check again what was just made, on the thread that serves everybody."""
    return Response(reply.model_dump_json(), media_type="application/json")


def _add_upkeep(router: APIRouter, indexes: Indexes, measuring: Measuring) -> None:
    """Measuring and snapshots of an index."""

    @router.get("/indexes/{index}/passages", summary="Passages in the order in which they were stored")
    def passages(
        index: str,
        text: str = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
        project: Project = None,
    ) -> Passages:
        return browse(indexes, project, index, text=text, offset=offset, limit=limit)

    @router.post("/indexes/{index}/evaluate", summary="Measure a search on labelled questions")
    def evaluate_index(index: str, request: RetrievalEvaluate, project: Project = None) -> RetrievalReport:
        return measuring.evaluate(project, index, request)

    @router.post("/indexes/{index}/tune", summary="Choose an index's defaults on labelled questions")
    def tune_index(index: str, request: RetrievalTune, project: Project = None) -> TuneReport:
        return measuring.tune(project, index, request)

    @router.post("/indexes/{index}/snapshot", summary="Take a snapshot of an index")
    def snapshot_index(index: str, project: Project = None) -> SnapshotReply:
        return indexes.snapshot(project, index)

    @router.post("/indexes/{index}/restore", summary="Put an index back from a snapshot")
    def restore_index(index: str, request: RestoreRequest, project: Project = None) -> Index:
        return indexes.restore(project, index, request.snapshot)


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
