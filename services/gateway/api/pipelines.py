"""`/v1/pipelines`: a data set to an index, a tuned model, its evaluation and a comparison, as one resource."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from fastapi.responses import JSONResponse

from model_training.contracts.base import Page
from model_training.contracts.jobs import JobKind
from model_training.contracts.pipelines import EXAMPLE, Pipeline, PipelineCreate
from services.gateway.api.creating import created
from services.gateway.api.dependencies import (
    After,
    IdempotencyKey,
    Limit,
    Parts,
    Reader,
    StateFilter,
    Submitter,
)
from services.gateway.service import jobs, pipelines

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"])
PipelineId = Annotated[
    str, Path(description="A pipeline's id.", min_length=1, max_length=200, examples=["pipe_01k9zq3v5c"])
]

SHOWN: dict[str, Any] = {
    "id": "pipe_01jabf",
    "object": "pipeline",
    "name": "learn attrs",
    "state": "running",
    "created_at": "2026-11-23T08:00:00Z",
    "started_at": "2026-11-23T08:00:01Z",
    "files": EXAMPLE["files"],
    "steps": [
        {
            "name": "index",
            "kind": "index",
            "state": "succeeded",
            "job_id": "idx_01jabg",
            "job_state": "succeeded",
            "reused": True,
            "progress": {"fraction": 1.0},
            "result": {"id": "idx_01jabg", "name": "attrs"},
        },
        {
            "name": "train",
            "kind": "train",
            "state": "running",
            "job_id": "ftjob_01jabh",
            "job_state": "running",
            "progress": {"fraction": 0.5, "step": 38, "total": 76},
        },
    ],
    "progress": {"fraction": 0.75, "step": 1, "total": 2, "message": "train 50%"},
}


def _answer(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.post("", summary="Create a pipeline", response_model=Pipeline, responses=_answer(SHOWN))
async def create(
    gateway: Parts,
    who: Submitter,
    request: Annotated[PipelineCreate, Body(openapi_examples={"learn a library": {"value": EXAMPLE}})],
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Queue a chain of steps. Each step's body is that of its own create operation; `{{ files.<name> }}` and
    `{{ steps.<step>.<field> }}` in it stand for uploaded files and for results of other steps, and decide what waits for
    what. The whole pipeline is checked before anything is stored. A step whose work was done before, on the same inputs
    by hash, is reused and says so."""
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/pipelines",
        request,
        lambda session, attempts: pipelines.create(session, who, request, attempts),
    )


@router.get(
    "",
    summary="List pipelines",
    responses=_answer({"object": "list", "data": [SHOWN], "has_more": False, "last_id": "pipe_01jabf"}),
)
def list_pipelines(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[Pipeline]:
    """Newest first, each with its steps."""
    with gateway.database.session() as session:
        return pipelines.list_page(session, who, after, limit, state)


@router.get("/{pipeline_id}", summary="Retrieve a pipeline", responses=_answer(SHOWN))
def get(gateway: Parts, who: Reader, pipeline_id: PipelineId) -> Pipeline:
    """Every step with its job, what was reused, and what failed. Events, cancel, pause and resume are those of its job,
    under `/v1/jobs/{id}`."""
    with gateway.database.session() as session:
        return pipelines.describe(session, jobs.require(session, who, pipeline_id, JobKind.PIPELINE))


@router.post(
    "/{pipeline_id}/retry",
    summary="Retry a pipeline",
    response_model=Pipeline,
    responses=_answer({**SHOWN, "retry_of": "pipe_01jabe"}),
)
async def retry(
    gateway: Parts, who: Submitter, pipeline_id: PipelineId, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """Do what a failed or cancelled pipeline did not get done: a new pipeline of the same steps (`retry_of` names the old
    one), in which every step that had succeeded is reused."""
    return await created(
        gateway,
        who,
        idempotency_key,
        f"/v1/pipelines/{pipeline_id}/retry",
        None,
        lambda session, attempts: pipelines.retry(session, who, pipeline_id, attempts),
    )
