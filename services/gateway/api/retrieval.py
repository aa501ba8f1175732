"""`/v1/indexes/{index}/…`: delete, measure, tune, snapshot, restore; the retrieval service does the work."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import APIRouter, Response

from libs.common.errors import NotFound, Unavailable
from model_training.contracts.base import Deleted
from model_training.contracts.indexes import Index
from model_training.contracts.retrieval import (
    RestoreRequest,
    RetrievalEvaluate,
    RetrievalReport,
    RetrievalTune,
    SnapshotReply,
    TuneReport,
)
from services.gateway import repository
from services.gateway.api.dependencies import Asker, Gateway, JobId, Parts, Submitter
from services.gateway.domain import Principal
from services.gateway.service import audit

router = APIRouter(prefix="/v1/indexes/{index_id}", tags=["indexes"])
LONG_S = 600.0


@router.post("/evaluate", summary="Measure a search", response_model=RetrievalReport)
def evaluate_index(gateway: Parts, who: Asker, index_id: JobId, request: RetrievalEvaluate) -> Response:
    """Recall, MRR and nDCG on labelled questions with intervals, overall and by kind. The index by id or name."""
    return _forward(gateway, who, "POST", index_id, "/evaluate", request.model_dump(mode="json"))


@router.post("/tune", summary="Choose an index's defaults", response_model=TuneReport)
def tune_index(gateway: Parts, who: Submitter, index_id: JobId, request: RetrievalTune) -> Response:
    """Try ways to search on one half of the questions, keep the best if it is better on the other. By id or name."""
    return _forward(gateway, who, "POST", index_id, "/tune", request.model_dump(mode="json"))


@router.post("/snapshot", summary="Take a snapshot of an index", response_model=SnapshotReply)
def snapshot_index(gateway: Parts, who: Submitter, index_id: JobId) -> Response:
    """Passages and vectors in one file on the service's disk; either vector store restores it."""
    return _forward(gateway, who, "POST", index_id, "/snapshot")


@router.post("/load_snapshot", summary="Restore an index from a snapshot", response_model=Index)
def restore_index(gateway: Parts, who: Submitter, index_id: JobId, request: RestoreRequest) -> Response:
    """Put passages and vectors back; searches see the old ones until the new are complete."""
    return _forward(gateway, who, "POST", index_id, "/restore", request.model_dump(mode="json"))


@router.delete("", summary="Delete an index", response_model=Deleted)
def delete_index(gateway: Parts, who: Submitter, index_id: JobId) -> Response:
    """Delete one version of an index; its name then leads to the version before."""
    return _forward(gateway, who, "DELETE", index_id, "")


def _forward(
    gateway: Gateway, who: Principal, method: str, reference: str, path: str, body: Any = None
) -> Response:
    with gateway.database.session() as session:
        row = repository.newest_index(session, who.project_id, reference)
    if row is None:
        raise NotFound(
            f"There is no finished index {reference!r}.", param="index", hint="`mt rag list` shows them."
        )
    url = f"{gateway.settings.rag_url}/v1/indexes/{row.id}{path}"
    try:
        answer = gateway.http.request(method, url, json=body, timeout=LONG_S)
    except httpx.HTTPError as error:
        raise Unavailable(
            "The retrieval service does not answer.", hint="`mt status` shows what runs."
        ) from error
    if path != "/evaluate" and answer.is_success:
        audit.note(gateway.database, "index.deleted" if method == "DELETE" else "index.changed", row.id)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
