"""`/v1/evaluations/{id}/gate`: has an evaluation got worse than a baseline? Answered by the evaluator."""

from __future__ import annotations

import httpx
from fastapi import APIRouter, Response

from libs.common.errors import InvalidInput, Unavailable
from model_training.contracts.evaluations_gate import GateReply, GateRequest
from model_training.contracts.jobs import JobKind
from services.gateway.api.dependencies import Gateway, JobId, Parts, Reader
from services.gateway.domain import Principal
from services.gateway.service import jobs

router = APIRouter(prefix="/v1")


@router.post(
    "/evaluations/{id}/gate",
    tags=["evaluations"],
    summary="Compare an evaluation with a baseline",
    response_model=GateReply,
)
def gate(gateway: Parts, who: Reader, id: JobId, request: GateRequest) -> Response:
    """Paired tests by suite, with the items won and lost. Nothing is stored."""
    if (request.baseline is None) == (request.items is None):
        raise InvalidInput(
            "Name one baseline.", param="baseline", hint="Give an evaluation's id, or items, and not both."
        )
    for name in filter(None, (id, request.baseline)):
        _require(gateway, who, name)
    url = f"{gateway.settings.evaluator_url}/v1/evaluations/{id}/gate"
    try:
        reply = gateway.http.post(url, json=request.model_dump(mode="json"), timeout=120)
    except httpx.TransportError as error:
        raise Unavailable("The evaluator does not answer.", hint="`mt status` shows what runs.") from error
    return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))


def _require(gateway: Gateway, who: Principal, name: str) -> None:
    with gateway.database.session() as session:
        jobs.require(session, who, name, JobKind.EVALUATE)
