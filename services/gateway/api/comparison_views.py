"""`/v1/comparisons/{id}/matrix` and `…/what_if`: looking into a finished comparison; the comparator answers."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Path, Query, Response

from libs.common.errors import Unavailable
from model_training.contracts.comparison_views import Matrix, Outcome, WhatIf, WhatIfReply
from model_training.contracts.comparisons import SideBySide
from model_training.contracts.jobs import JobKind
from services.gateway.api.dependencies import Gateway, JobId, Parts, Reader
from services.gateway.domain import Principal
from services.gateway.service import jobs

router = APIRouter(prefix="/v1/comparisons/{id}", tags=["comparisons"])
LONG_S = 120.0

ArmName = Annotated[str | None, Query(max_length=64, description="An arm's name.")]


@router.get("/matrix", summary="Filter a comparison's items", response_model=Matrix)
def get_matrix(
    gateway: Parts,
    who: Reader,
    id: JobId,
    outcome: Annotated[Outcome | None, Query(description="What the arms make of an item.")] = None,
    suite: Annotated[str | None, Query(max_length=100, description="Only items of this suite.")] = None,
    form: Annotated[str | None, Query(max_length=100, description="Only this kind of question.")] = None,
    won: ArmName = None,
    lost: ArmName = None,
    search: Annotated[
        str | None, Query(max_length=200, description="Text in the question or the item's id.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 50,
) -> Response:
    """Who was right where, without the answers' texts: `won` was right where `lost` was wrong."""
    params = {"outcome": outcome, "suite": suite, "form": form, "won": won, "lost": lost, "search": search}
    return _ask(gateway, who, "GET", id, "/matrix", params=params | {"offset": offset, "limit": limit})


@router.get("/matrix/{position}", summary="Retrieve one item", response_model=SideBySide)
def get_item(
    gateway: Parts,
    who: Reader,
    id: JobId,
    position: Annotated[
        int, Path(ge=0, le=10_000_000, description="Its place, counted from 0.", examples=[0])
    ],
) -> Response:
    """One item with every arm's answer, prompt and sources."""
    return _ask(gateway, who, "GET", id, f"/matrix/{position}")


@router.post("/what_if", summary="Look at other prices", response_model=WhatIfReply)
def what_if(gateway: Parts, who: Reader, id: JobId, request: WhatIf) -> Response:
    """Break-even and uses of the same answers at other prices. Nothing is stored."""
    return _ask(gateway, who, "POST", id, "/what_if", body=request.model_dump(mode="json", exclude_none=True))


def _ask(
    gateway: Gateway,
    who: Principal,
    method: str,
    comparison_id: str,
    path: str,
    *,
    params: dict[str, Any] | None = None,
    body: Any = None,
) -> Response:
    with gateway.database.session() as session:
        jobs.require(session, who, comparison_id, JobKind.COMPARE)
    url = f"{gateway.settings.comparator_url}/v1/comparisons/{comparison_id}{path}"
    given = {name: value for name, value in (params or {}).items() if value is not None}
    try:
        answer = gateway.http.request(method, url, params=given, json=body, timeout=LONG_S)
    except httpx.HTTPError as error:
        raise Unavailable("The comparator does not answer.", hint="`mt status` shows what runs.") from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
