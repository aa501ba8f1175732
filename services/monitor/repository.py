"""All SQL of the monitor: how long the queues are, and which jobs run."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow
from model_training.contracts.jobs import JobKind, JobProgress, JobState
from model_training.contracts.monitoring import QueueUsage, RunningJob

HELD = (JobState.RUNNING.value, JobState.PAUSING.value, JobState.CANCELLING.value)
"""States in which a worker holds the job."""


def queues(session: Session) -> list[QueueUsage]:
    """Every kind of job, also those with nothing to do."""
    waited = func.extract("epoch", func.now() - func.min(JobRow.queued_at))
    query = (
        select(JobRow.kind, JobRow.state, func.count(), waited)
        .where(JobRow.finished_at.is_(None))
        .group_by(JobRow.kind, JobRow.state)
    )
    found = {kind: QueueUsage(kind=kind) for kind in JobKind}
    for kind, state, count, waited_s in session.execute(query):
        usage = found[JobKind(kind)]
        if state in HELD:
            usage.running += count
        elif state == JobState.QUEUED.value:
            usage.queued = count
            usage.oldest_queued_s = max(0.0, float(waited_s or 0.0))
    return list(found.values())


def running_jobs(session: Session, limit: int = 100) -> list[RunningJob]:
    """Jobs that a worker holds, the longest first."""
    query = select(JobRow).where(JobRow.state.in_(HELD)).order_by(JobRow.started_at).limit(limit)
    return [
        RunningJob(
            id=row.id,
            kind=JobKind(row.kind),
            started_at=row.started_at,
            progress=JobProgress.model_validate(row.progress or {}),
        )
        for row in session.scalars(query)
    ]
