"""`/v1/indexes`, `/v1/evaluations`, `/v1/comparisons`: created here, read from the services that own them."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from libs.common.db.tables import JobRow
from libs.common.errors import NotFound, Unavailable
from model_training.contracts.base import Page
from model_training.contracts.comparisons import Comparison, ComparisonCreate, ReportFormat, SideBySide
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationCreate,
    GradeReply,
    GradeRequest,
    ItemResult,
)
from model_training.contracts.indexes import Index, IndexCreate, QueryReply, QueryRequest
from model_training.contracts.jobs import JobKind, JobState
from services.gateway import repository
from services.gateway.api.creating import created
from services.gateway.api.dependencies import (
    After,
    Asker,
    Gateway,
    IdempotencyKey,
    JobId,
    Limit,
    Parts,
    Reader,
    StateFilter,
    Submitter,
)
from services.gateway.domain import Principal
from services.gateway.service import jobs, work

router = APIRouter(prefix="/v1")
AfterItem = Annotated[str | None, Query(alias="after", description="Go on after this item.", max_length=200)]
REPORTS: dict[str, Any] = {
    "text/html": {"schema": {"type": "string"}, "example": "<!doctype html><title>Comparison</title>"},
    "text/markdown": {"schema": {"type": "string"}, "example": "# Comparison"},
    "application/json": {
        "schema": {"type": "object"},
        "example": {"id": "cmp_01k9zq", "arms": [], "pairs": []},
    },
    "text/csv": {"schema": {"type": "string"}, "example": "item_id,suite,question,reference,arm,correct\n"},
    "application/jsonl": {
        "schema": {"type": "string"},
        "example": '{"question": "What does `f` do?", "answer": ""}\n',
    },
}
Format = Annotated[
    ReportFormat, Path(description="Its form; `jsonl` has the questions to answer and train on next.")
]


@router.post("/indexes", tags=["indexes"], summary="Build an index", response_model=Index)
async def create_index(
    gateway: Parts, who: Submitter, request: IndexCreate, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """Queue the building of a retrieval index from uploaded chunks."""
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/indexes",
        request,
        lambda session, attempts: work.create_index(session, who, request, attempts),
    )


@router.post("/evaluations", tags=["evaluations"], summary="Evaluate a model", response_model=Evaluation)
async def create_evaluation(
    gateway: Parts, who: Submitter, request: EvaluationCreate, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """Queue an evaluation of a base, a tuned model, or either behind an index."""
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/evaluations",
        request,
        lambda session, attempts: work.create_evaluation(session, who, request, attempts),
    )


@router.post("/comparisons", tags=["comparisons"], summary="Compare arms", response_model=Comparison)
async def create_comparison(
    gateway: Parts, who: Submitter, request: ComparisonCreate, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """Queue a comparison of several ways to answer the same items."""
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/comparisons",
        request,
        lambda session, attempts: work.create_comparison(session, who, request, attempts),
    )


@router.get("/indexes", tags=["indexes"], summary="List indexes")
def list_indexes(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[Index]:
    """Newest first."""
    rows, more = _rows(gateway, who, JobKind.INDEX, after, limit, state)
    return Page.of([work.describe_index(row) for row in rows], more)


@router.get("/evaluations", tags=["evaluations"], summary="List evaluations")
def list_evaluations(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[Evaluation]:
    """Newest first."""
    rows, more = _rows(gateway, who, JobKind.EVALUATE, after, limit, state)
    return Page.of([work.describe_evaluation(row) for row in rows], more)


@router.get("/comparisons", tags=["comparisons"], summary="List comparisons")
def list_comparisons(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[Comparison]:
    """Newest first."""
    rows, more = _rows(gateway, who, JobKind.COMPARE, after, limit, state)
    return Page.of([work.describe_comparison(row) for row in rows], more)


@router.get("/indexes/{index_id}", tags=["indexes"], summary="Retrieve an index")
def get_index(gateway: Parts, who: Reader, index_id: JobId) -> Index:
    """State, size and embedder."""
    with gateway.database.session() as session:
        row = jobs.require(session, who, index_id, JobKind.INDEX)
        return work.describe_index(row, repository.newest_index(session, who.project_id, index_id))


@router.post(
    "/indexes/{index_id}/query", tags=["indexes"], summary="Search an index", response_model=QueryReply
)
def query_index(gateway: Parts, who: Asker, index_id: JobId, request: QueryRequest) -> Response:
    """The passages nearest to a question, best first. The index is named by id or by name."""
    with gateway.database.session() as session:
        row = repository.newest_index(session, who.project_id, index_id)
    if row is None:
        raise NotFound(
            f"There is no finished index {index_id!r}.", param="index", hint="`mt jobs list --kind index`."
        )
    body = request.model_dump(mode="json")
    return _forward(gateway, "POST", f"{gateway.settings.rag_url}/v1/indexes/{row.id}/query", body)


@router.get(
    "/evaluations/{id}", tags=["evaluations"], summary="Retrieve an evaluation", response_model=Evaluation
)
def get_evaluation(gateway: Parts, who: Reader, id: JobId) -> Response:
    """Outcome by suite, with intervals."""
    _require(gateway, who, id, JobKind.EVALUATE)
    return _forward(gateway, "GET", f"{gateway.settings.evaluator_url}/v1/evaluations/{id}")


@router.get(
    "/evaluations/{id}/items",
    tags=["evaluations"],
    summary="List an evaluation's items",
    response_model=Page[ItemResult],
)
def get_evaluation_items(
    gateway: Parts,
    who: Reader,
    id: JobId,
    request: Request,
    _suite: Annotated[
        str | None, Query(alias="suite", description="Only items of this suite.", max_length=100)
    ] = None,
    _status: Annotated[
        str | None, Query(alias="status", description="Only these outcomes.", max_length=100)
    ] = None,
    _after: AfterItem = None,
    _limit: Annotated[int, Query(alias="limit", ge=1, le=1000, description="How many at most.")] = 100,
) -> Response:
    """Every item's prompt, output, score and reason."""
    _require(gateway, who, id, JobKind.EVALUATE)
    url = f"{gateway.settings.evaluator_url}/v1/evaluations/{id}/items?{request.url.query}"
    return _forward(gateway, "GET", url)


@router.post("/grade", tags=["evaluations"], summary="Grade outputs", response_model=GradeReply)
def grade(gateway: Parts, who: Submitter, request: GradeRequest) -> Response:
    """Grade outputs that came from anywhere, as an evaluation would: code runs in the sandbox. Nothing is stored."""
    return _forward(
        gateway, "POST", f"{gateway.settings.evaluator_url}/v1/grade", request.model_dump(mode="json")
    )


@router.get(
    "/comparisons/{id}", tags=["comparisons"], summary="Retrieve a comparison", response_model=Comparison
)
def get_comparison(gateway: Parts, who: Reader, id: JobId) -> Response:
    """Arms, paired differences and the verdict."""
    _require(gateway, who, id, JobKind.COMPARE)
    return _forward(gateway, "GET", f"{gateway.settings.comparator_url}/v1/comparisons/{id}")


@router.get(
    "/comparisons/{id}/items",
    tags=["comparisons"],
    summary="List items side by side",
    response_model=Page[SideBySide],
)
def get_comparison_items(
    gateway: Parts,
    who: Reader,
    id: JobId,
    request: Request,
    _after: AfterItem = None,
    _limit: Annotated[int, Query(alias="limit", ge=1, le=1000, description="How many at most.")] = 100,
) -> Response:
    """Every item with each arm's answer."""
    _require(gateway, who, id, JobKind.COMPARE)
    url = f"{gateway.settings.comparator_url}/v1/comparisons/{id}/items?{request.url.query}"
    return _forward(gateway, "GET", url)


@router.get(
    "/comparisons/{id}/report.{format}",
    tags=["comparisons"],
    summary="Download a report",
    response_class=Response,
    responses={200: {"content": REPORTS, "description": "The report."}},
)
def get_report(
    gateway: Parts,
    who: Reader,
    id: JobId,
    format: Format,
) -> Response:
    """The report as html, md or json, its items as csv, or the questions to train on next as jsonl."""
    _require(gateway, who, id, JobKind.COMPARE)
    return _forward(gateway, "GET", f"{gateway.settings.comparator_url}/v1/comparisons/{id}/report.{format}")


def _rows(
    gateway: Gateway, who: Principal, kind: JobKind, after: str | None, limit: int, state: JobState | None
) -> tuple[list[JobRow], bool]:
    with gateway.database.session() as session:
        return jobs.list_rows(session, who, after=after, limit=limit, kind=kind, state=state)


def _require(gateway: Gateway, who: Principal, job_id: str, kind: JobKind) -> None:
    with gateway.database.session() as session:
        jobs.require(session, who, job_id, kind)


def _forward(gateway: Gateway, method: str, url: str, body: object = None) -> Response:
    try:
        answer = gateway.http.request(method, url, json=body)
    except httpx.HTTPError as error:
        host = httpx.URL(url).host
        raise Unavailable(
            f"A service of the platform does not answer ({host}:{httpx.URL(url).port}).",
            hint="`mt status` shows which.",
        ) from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
