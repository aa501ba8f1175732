"""Jobs of every kind, as the API shows and steers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from libs.common.db.tables import JobEventRow, JobRow
from libs.common.errors import NotFound
from libs.common.jobs import transitions
from model_training.contracts.base import Page
from model_training.contracts.jobs import Job, JobError, JobEvent, JobKind, JobProgress, JobState, MetricPoint
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service import quotas


def create(
    session: Session,
    kind: JobKind,
    principal: Principal,
    spec: dict[str, Any],
    metadata: dict[str, str] | None,
    max_attempts: int,
) -> JobRow:
    """Queue a job.

    Raises:
        QuotaExceeded: the key or its project has as many unfinished jobs as it may have.
    """
    quotas.admit_job(session, principal)
    return transitions.create(
        session,
        kind,
        principal.project_id,
        spec,
        metadata=metadata,
        max_attempts=max_attempts,
        created_by=principal.key_id,
    )


def require(session: Session, principal: Principal, job_id: str, kind: JobKind | None = None) -> JobRow:
    """A job of the project.

    Raises:
        NotFound: there is none of that id (and kind).
    """
    row = repository.get(session, JobRow, principal.project_id, job_id)
    if row is None or (kind is not None and row.kind != kind.value):
        what = f"{kind.value} job" if kind else "job"
        raise NotFound(f"There is no {what} {job_id!r}.", param="id", hint="List them with `mt jobs list`.")
    return row


def list_rows(
    session: Session,
    principal: Principal,
    *,
    after: str | None,
    limit: int,
    kind: JobKind | None = None,
    state: JobState | None = None,
) -> tuple[list[JobRow], bool]:
    """Jobs of the project, newest first, and whether there are more."""
    where: Sequence[ColumnElement[bool]] = [
        *([repository.of_kind(kind)] if kind else []),
        *([JobRow.state == state.value] if state else []),
    ]
    return repository.page(session, JobRow, principal.project_id, after=after, limit=limit, where=where)


def list_jobs(
    session: Session,
    principal: Principal,
    *,
    after: str | None,
    limit: int,
    kind: JobKind | None = None,
    state: JobState | None = None,
) -> Page[Job]:
    """One page of jobs."""
    rows, more = list_rows(session, principal, after=after, limit=limit, kind=kind, state=state)
    return Page.of([describe(row) for row in rows], more)


def of_project(session: Session, principal: Principal, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are jobs of the project."""
    rows = repository.jobs_by_id(session, ids).values()
    return {row.id for row in rows if row.project_id == principal.project_id}


def cancel(session: Session, principal: Principal, job_id: str, kind: JobKind | None = None) -> JobRow:
    """Ask a job to end for good."""
    require(session, principal, job_id, kind)
    row = transitions.locked(session, job_id)
    transitions.request_cancel(session, row)
    return row


def pause(session: Session, principal: Principal, job_id: str, kind: JobKind | None = None) -> JobRow:
    """Ask a job to stop where it can go on later."""
    require(session, principal, job_id, kind)
    row = transitions.locked(session, job_id)
    transitions.request_pause(session, row)
    return row


def resume(session: Session, principal: Principal, job_id: str, kind: JobKind | None = None) -> JobRow:
    """Queue a paused job again."""
    require(session, principal, job_id, kind)
    row = transitions.locked(session, job_id)
    transitions.resume(session, row)
    return row


def get(session: Session, principal: Principal, job_id: str) -> Job:
    """One job, with its place in the line."""
    row = require(session, principal, job_id)
    return describe(row, repository.queue_position(session, row))


def describe(row: JobRow, queue_position: int | None = None) -> Job:
    """A job as the API shows it. The place in the line is left out of lists and of new jobs: it takes a look at the line."""
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=progress_of(row),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        queue_position=queue_position,
        error=error_of(row),
        spec=row.spec,
        result=row.result,
        metadata=row.meta,
    )


def progress_of(row: JobRow) -> JobProgress:
    """How far a job is."""
    return JobProgress.model_validate(row.progress or {})


def error_of(row: JobRow) -> JobError | None:
    """Why a job failed, if it did."""
    return JobError.model_validate(row.error) if row.error else None


def describe_event(row: JobEventRow) -> JobEvent:
    """An event as the API shows it."""
    return JobEvent(
        job_id=row.job_id,
        sequence=row.sequence,
        created_at=row.created_at,
        level=row.level,  # pyright: ignore[reportArgumentType]
        type=row.type,
        message=row.message,
        data=row.data,
    )


def events(session: Session, principal: Principal, job_id: str, after: int, limit: int) -> Page[JobEvent]:
    """Events in order, after a sequence number."""
    require(session, principal, job_id)
    rows = repository.events_after(session, job_id, after, limit + 1)
    data = [describe_event(row) for row in rows[:limit]]
    return Page(
        data=data,
        first_id=str(data[0].sequence) if data else None,
        last_id=str(data[-1].sequence) if data else None,
        has_more=len(rows) > limit,
    )


def metrics(session: Session, principal: Principal, job_id: str, after: int, limit: int) -> Page[MetricPoint]:
    """Metric points in order, after a step."""
    require(session, principal, job_id)
    rows = repository.metrics(session, job_id, after, limit + 1)
    data = [MetricPoint(step=row.step, created_at=row.created_at, values=row.values) for row in rows[:limit]]
    return Page(
        data=data,
        first_id=str(data[0].step) if data else None,
        last_id=str(data[-1].step) if data else None,
        has_more=len(rows) > limit,
    )
