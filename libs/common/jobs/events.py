"""A job's append-only history. Callers hold the job row's lock; that is what keeps the sequence free of gaps."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobEventRow, JobRow

CHANNEL = "job_events"
"""The NOTIFY channel; the payload is the job's id and nothing else."""

Level = Literal["info", "warn", "error"]


def append(
    session: Session,
    job: JobRow,
    message: str,
    *,
    type: str = "message",
    level: Level = "info",
    data: dict[str, Any] | None = None,
) -> None:
    """Append one event. The job row must be locked by this transaction."""
    job.last_sequence += 1
    session.add(
        JobEventRow(
            job_id=job.id,
            sequence=job.last_sequence,
            level=level,
            type=type,
            message=message[:4000],
            data=data or {},
            created_at=func.clock_timestamp(),
        )
    )


def notify(session: Session, job_id: str) -> None:
    """Wake the streams that watch this job, once the transaction commits."""
    session.execute(select(func.pg_notify(CHANNEL, job_id)))
