"""`/v1/indexes/{index}/passages`: what is in an index; the retrieval service answers."""

from __future__ import annotations

from typing import Annotated

import httpx
from fastapi import APIRouter, Query, Response

from libs.common.errors import NotFound, Unavailable
from model_training.contracts.indexes import Passages
from services.gateway import repository
from services.gateway.api.dependencies import JobId, Parts, Reader

router = APIRouter(prefix="/v1/indexes/{index_id}", tags=["indexes"])
LONG_S = 60.0


@router.get("/passages", summary="Look through an index", response_model=Passages)
def list_passages(
    gateway: Parts,
    who: Reader,
    index_id: JobId,
    text: Annotated[str, Query(max_length=200, description="In title, text, path or functions.")] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 20,
) -> Response:
    """Passages in the order in which they were stored; of an index by id or name."""
    with gateway.database.session() as session:
        row = repository.newest_index(session, who.project_id, index_id)
    if row is None:
        raise NotFound(
            f"There is no finished index {index_id!r}.", param="index", hint="`mt rag list` shows them."
        )
    url = f"{gateway.settings.rag_url}/v1/indexes/{row.id}/passages"
    params: dict[str, str | int] = {"text": text, "offset": offset, "limit": limit}
    try:
        answer = gateway.http.request("GET", url, params=params, timeout=LONG_S)
    except httpx.HTTPError as error:
        raise Unavailable(
            "The retrieval service does not answer.", hint="`mt status` shows what runs."
        ) from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
