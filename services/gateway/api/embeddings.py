"""`/v1/embeddings`: passed on to the retrieval service, whose embedders make the indexes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from model_training.contracts.embeddings import EmbeddingReply, EmbeddingRequest
from services.gateway.api.dependencies import Asker, Parts

router = APIRouter(prefix="/v1", tags=["chat"])
PASSED_ON = ("content-type", "retry-after")


@router.post("/embeddings", summary="Embed texts", response_model=EmbeddingReply)
async def embed(gateway: Parts, who: Asker, request: EmbeddingRequest) -> Response:
    """Unit vectors of texts, by the embedders that indexes are made with."""
    url = f"{gateway.settings.rag_url}/v1/embeddings"
    headers = {"x-mt-project": who.project_id}
    answer = await gateway.relay.post(url, request.model_dump(mode="json", exclude_none=True), headers)
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    return Response(await answer.read(), answer.status, headers=headers)
