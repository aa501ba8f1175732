"""HTTP routes of the comparator; the gateway passes them through to the public."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse

from libs.common.auth import require_internal
from model_training.contracts.base import Page
from model_training.contracts.comparison_views import Matrix, Outcome, WhatIf, WhatIfReply
from model_training.contracts.comparisons import Comparison, ReportFormat, SideBySide
from services.comparator.service.browsing import Wanted
from services.comparator.service.reading import MEDIA_TYPES, Comparisons


def make_router(comparisons: Comparisons, internal_token: str) -> APIRouter:
    """The routes, for other services only."""
    router = APIRouter(
        prefix="/v1/comparisons",
        tags=["comparisons"],
        dependencies=[Depends(require_internal(internal_token))],
    )

    @router.get("/{comparison_id}", summary="One comparison with its report")
    def get_comparison(comparison_id: str) -> Comparison:
        return comparisons.get(comparison_id)

    @router.get("/{comparison_id}/items", summary="Every item with each arm's answer")
    def list_items(
        comparison_id: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Page[SideBySide]:
        return comparisons.items(comparison_id, after, limit)

    @router.get("/{comparison_id}/matrix", summary="A stretch of the items, filtered")
    def get_matrix(
        comparison_id: str,
        wanted: Annotated[Wanted, Depends(_wanted)],
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Matrix:
        return comparisons.matrix(comparison_id, wanted, offset, limit)

    @router.get("/{comparison_id}/matrix/{position}", summary="One item by its place")
    def get_item(comparison_id: str, position: int) -> SideBySide:
        return comparisons.item(comparison_id, position)

    @router.post("/{comparison_id}/what_if", summary="The same answers at other prices")
    def get_what_if(comparison_id: str, request: WhatIf) -> WhatIfReply:
        return comparisons.what_if(comparison_id, request)

    @router.get("/{comparison_id}/report.{format}", summary="The report", response_class=FileResponse)
    def get_report(comparison_id: str, format: ReportFormat) -> FileResponse:
        return FileResponse(comparisons.report(comparison_id, format), media_type=MEDIA_TYPES[format])

    return router


def _wanted(
    outcome: Outcome | None = None,
    suite: str | None = None,
    form: str | None = None,
    won: str | None = None,
    lost: str | None = None,
    search: str | None = None,
) -> Wanted:
    return Wanted(outcome, suite, form, won, lost, search)
