"""`/v1/jobs`: jobs of any kind, and their events as pages or as a stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from model_training.contracts.base import Page
from model_training.contracts.jobs import Job, JobEvent, JobKind, MetricPoint
from services.gateway.api.dependencies import (
    After,
    Gateway,
    JobId,
    Limit,
    Parts,
    Reader,
    StateFilter,
    Submitter,
)
from services.gateway.api.openapi import event_stream
from services.gateway.domain import Principal
from services.gateway.service import jobs

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
STREAM = {"id": "1", "event": "state", "data": '{"sequence": 1, "message": "The job is queued."}'}


@router.get("", summary="List jobs")
def list_jobs(
    gateway: Parts,
    who: Reader,
    after: After = None,
    limit: Limit = 20,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    state: StateFilter = None,
) -> Page[Job]:
    """Jobs of the project, newest first."""
    with gateway.database.session() as session:
        return jobs.list_jobs(session, who, after=after, limit=limit, kind=kind, state=state)


@router.get("/{job_id}", summary="Retrieve a job")
def get(gateway: Parts, who: Reader, job_id: JobId) -> Job:
    """State, progress, attempts, error and result."""
    with gateway.database.session() as session:
        return jobs.get(session, who, job_id)


@router.post("/{job_id}/cancel", summary="Cancel a job")
def cancel(gateway: Parts, who: Submitter, job_id: JobId) -> Job:
    """Ask the job to end for good."""
    with gateway.database.session() as session:
        return jobs.describe(jobs.cancel(session, who, job_id))


@router.post("/{job_id}/pause", summary="Pause a job")
def pause(gateway: Parts, who: Submitter, job_id: JobId) -> Job:
    """Ask the job to stop where it can go on later."""
    with gateway.database.session() as session:
        return jobs.describe(jobs.pause(session, who, job_id))


@router.post("/{job_id}/resume", summary="Resume a job")
def resume(gateway: Parts, who: Submitter, job_id: JobId) -> Job:
    """Queue a paused job again."""
    with gateway.database.session() as session:
        return jobs.describe(jobs.resume(session, who, job_id))


@router.get("/{job_id}/metrics", summary="Read a job's metrics")
def metrics(
    gateway: Parts,
    who: Reader,
    job_id: JobId,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="Go on after this step.")] = -1,
    limit: Annotated[int, Query(ge=1, le=10_000, description="How many at most.")] = 1000,
) -> Page[MetricPoint]:
    """Values by step, in order."""
    with gateway.database.session() as session:
        return jobs.metrics(session, who, job_id, after, limit)


@router.get(
    "/{job_id}/events",
    summary="Read or follow a job's events",
    response_model=Page[JobEvent],
    responses={
        200: {
            "content": event_stream(STREAM),
            "description": "A page, or a stream of events.",
        }
    },
)
async def events(
    request: Request,
    gateway: Parts,
    who: Reader,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, le=2**53, description="Go on after this sequence number.")] = 0,
    limit: Limit = 100,
    last_event_id: Annotated[
        int,
        Header(alias="Last-Event-ID", description="The last sequence number that was seen.", ge=0, le=2**53),
    ] = 0,
) -> object:
    """A page in order; with `Accept: text/event-stream`, a stream that replays from `Last-Event-ID` and misses nothing."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        return await run_in_threadpool(_page, gateway, who, job_id, after, limit)
    await run_in_threadpool(
        _page, gateway, who, job_id, 0, 1
    )  # a job that is not there is a 404, not a broken stream
    start = max(after, last_event_id)
    return StreamingResponse(
        gateway.feeds.stream(job_id, start, gateway.settings.sse_heartbeat_s),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


def _page(gateway: Gateway, who: Principal, job_id: str, after: int, limit: int) -> Page[JobEvent]:
    with gateway.database.session() as session:
        return jobs.events(session, who, job_id, after, limit)
