"""`/v1/fine_tuning/jobs`, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from model_training.contracts.base import Page
from model_training.contracts.dry_runs import DryRun
from model_training.contracts.fine_tuning import (
    Checkpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningJobCreate,
)
from model_training.contracts.jobs import JobKind
from services.gateway.api.creating import created
from services.gateway.api.dependencies import (
    After,
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
from services.gateway.service import dry_runs, fine_tuning, jobs

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
TRAIN = JobKind.TRAIN


@router.post("", summary="Create a fine-tuning job", response_model=FineTuningJob | DryRun)
async def create(
    gateway: Parts,
    who: Submitter,
    request: FineTuningJobCreate,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[
        bool, Query(description="Create nothing; say what the job would do and take.")
    ] = False,
) -> JSONResponse:
    """Queue a fine-tuning job. `training` overrides single fields of the training configuration."""
    if dry_run:
        return await run_in_threadpool(_rehearse, gateway, who, request)
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/fine_tuning/jobs",
        request,
        lambda session, attempts: fine_tuning.create(session, who, request, attempts),
    )


def _rehearse(gateway: Gateway, who: Principal, request: FineTuningJobCreate) -> JSONResponse:
    with gateway.database.session() as session:
        found = dry_runs.dry_run(session, who, request, gateway.settings.model_dir)
    return JSONResponse(found.model_dump(mode="json"))


@router.get("", summary="List fine-tuning jobs")
def list_jobs(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[FineTuningJob]:
    """Newest first."""
    with gateway.database.session() as session:
        return fine_tuning.list_page(session, who, after, limit, state)


@router.get("/{job_id}", summary="Retrieve a fine-tuning job")
def get(gateway: Parts, who: Reader, job_id: JobId) -> FineTuningJob:
    """One job in OpenAI's shape, with progress, effective settings and metrics."""
    with gateway.database.session() as session:
        return fine_tuning.get(session, who, job_id)


@router.post("/{job_id}/cancel", summary="Cancel a fine-tuning job")
def cancel(gateway: Parts, who: Submitter, job_id: JobId) -> FineTuningJob:
    """Ask the job to end for good; what it has committed stays."""
    with gateway.database.session() as session:
        return fine_tuning.describe(jobs.cancel(session, who, job_id, TRAIN))


@router.post("/{job_id}/pause", summary="Pause a fine-tuning job")
def pause(gateway: Parts, who: Submitter, job_id: JobId) -> FineTuningJob:
    """Ask the job to write a checkpoint and free its worker."""
    with gateway.database.session() as session:
        return fine_tuning.describe(jobs.pause(session, who, job_id, TRAIN))


@router.post("/{job_id}/resume", summary="Resume a fine-tuning job")
def resume(gateway: Parts, who: Submitter, job_id: JobId) -> FineTuningJob:
    """Queue a paused job again; it goes on from its last checkpoint."""
    with gateway.database.session() as session:
        return fine_tuning.describe(jobs.resume(session, who, job_id, TRAIN))


@router.get("/{job_id}/events", summary="List a job's events")
def events(
    gateway: Parts,
    who: Reader,
    job_id: JobId,
    after: After = None,
    limit: Limit = 20,
) -> Page[FineTuningEvent]:
    """Newest first, as OpenAI lists them. `/v1/jobs/{id}/events` has them in order and as a stream."""
    with gateway.database.session() as session:
        return fine_tuning.events(session, who, job_id, after, limit)


@router.get("/{job_id}/checkpoints", summary="List a job's checkpoints")
def checkpoints(
    gateway: Parts, who: Reader, job_id: JobId, after: After = None, limit: Limit = 10
) -> Page[Checkpoint]:
    """Committed checkpoints, newest first."""
    with gateway.database.session() as session:
        return fine_tuning.checkpoints(session, who, job_id, after, limit)
