"""What the tables of jobs and models say about queues, running jobs and their newest values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobEventRow, JobMetricRow, JobRow, ModelRow
from model_training.contracts.jobs import JobKind, JobProgress, JobState
from model_training.contracts.monitoring import QueueUsage, RunningJob

HELD = (JobState.RUNNING.value, JobState.PAUSING.value, JobState.CANCELLING.value)
"""States in which a worker holds the job."""

NEWEST = 40
"""Steps of which the newest value of each metric is sought."""


@dataclass(frozen=True)
class StepValues:
    """What was measured at one step."""

    step: int
    at: datetime
    values: dict[str, float]


def queues(session: Session) -> list[QueueUsage]:
    """Every kind of job, also those with nothing to do."""
    waited = func.extract("epoch", func.now() - func.min(JobRow.queued_at))
    lost = func.count().filter(JobRow.lease_expires_at < func.now())
    query = (
        select(JobRow.kind, JobRow.state, func.count(), waited, lost)
        .where(JobRow.finished_at.is_(None))
        .group_by(JobRow.kind, JobRow.state)
    )
    found = {kind: QueueUsage(kind=kind) for kind in JobKind}
    for kind, state, count, waited_s, lost_leases in session.execute(query):
        usage = found[JobKind(kind)]
        if state in HELD:
            usage.running += count
            usage.lost += lost_leases
        elif state == JobState.QUEUED.value:
            usage.queued = count
            usage.oldest_queued_s = max(0.0, float(waited_s or 0.0))
    return list(found.values())


def running_jobs(session: Session, limit: int = 100) -> list[RunningJob]:
    """Jobs that a worker holds, the longest first, with how long each has said nothing."""
    latest_event = (
        select(func.max(JobEventRow.created_at)).where(JobEventRow.job_id == JobRow.id).scalar_subquery()
    )
    latest_metric = (
        select(func.max(JobMetricRow.created_at)).where(JobMetricRow.job_id == JobRow.id).scalar_subquery()
    )
    heard = func.greatest(latest_event, latest_metric, JobRow.started_at)
    silent = func.extract("epoch", func.now() - heard)
    query = select(JobRow, silent).where(JobRow.state.in_(HELD)).order_by(JobRow.started_at).limit(limit)
    return [
        RunningJob(
            id=row.id,
            kind=JobKind(row.kind),
            started_at=row.started_at,
            progress=JobProgress.model_validate(row.progress or {}),
            silent_s=max(0.0, float(silent_s or 0.0)),
        )
        for row, silent_s in session.execute(query)
    ]


def job(session: Session, job_id: str) -> JobRow | None:
    """A job of any kind and project."""
    return session.get(JobRow, job_id)


def owners(session: Session) -> dict[str, str]:
    """Which worker holds each running job, by job."""
    query = select(JobRow.id, JobRow.lease_owner).where(
        JobRow.lease_owner.is_not(None), JobRow.state.in_(HELD)
    )
    return {job_id: owner for job_id, owner in session.execute(query) if owner}


def steps(session: Session, job_id: str, newest: int = 2000) -> list[StepValues]:
    """The newest steps of a job with their values, in order."""
    query = (
        select(JobMetricRow)
        .where(JobMetricRow.job_id == job_id)
        .order_by(JobMetricRow.step.desc())
        .limit(newest)
    )
    return [
        StepValues(row.step, row.created_at, row.values) for row in reversed(session.scalars(query).all())
    ]


def models(session: Session) -> dict[str, int]:
    """How many tuned models there are in each state."""
    query = select(ModelRow.state, func.count()).group_by(ModelRow.state)
    return {state: count for state, count in session.execute(query)}


def attempt_began(session: Session, job_id: str) -> datetime | None:
    """When the job's present attempt began; None before the first."""
    query = select(func.max(JobEventRow.created_at)).where(
        JobEventRow.job_id == job_id, JobEventRow.type == "state", JobEventRow.data.has_key("fence")
    )
    return session.scalar(query)


def silent_s(session: Session, job_id: str) -> float:
    """Seconds since a job last said anything."""
    event = select(func.max(JobEventRow.created_at)).where(JobEventRow.job_id == job_id).scalar_subquery()
    metric = select(func.max(JobMetricRow.created_at)).where(JobMetricRow.job_id == job_id).scalar_subquery()
    silent = session.scalar(select(func.extract("epoch", func.now() - func.greatest(event, metric))))
    return max(0.0, float(silent or 0.0))


def now(session: Session) -> datetime:
    """The database's time, by which all of a job's times are kept."""
    return session.execute(select(func.now())).scalar_one()
