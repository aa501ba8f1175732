"""What jobs have used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import JobMetricRow, JobUsageRow
from model_training.contracts.monitoring import JobUsage


def of(session: Session, job_id: str) -> JobUsage | None:
    """What a job has used; None if nobody has measured it."""
    row = session.get(JobUsageRow, job_id)
    return JobUsage.model_validate(row.data) if row is not None else None


def put(session: Session, job_id: str, usage: JobUsage, at: datetime) -> None:
    """Write down what a job has used so far."""
    values = {"data": usage.model_dump(mode="json"), "updated_at": at}
    session.execute(
        insert(JobUsageRow)
        .values(job_id=job_id, **values)
        .on_conflict_do_update(index_elements=["job_id"], set_=values)
    )


def tokens(session: Session, job_ids: Sequence[str]) -> dict[str, float]:
    """How many tokens jobs have trained on, by job."""
    counted = JobMetricRow.values["tokens"].as_float()
    query = (
        select(JobMetricRow.job_id, func.max(counted))
        .where(JobMetricRow.job_id.in_(job_ids), JobMetricRow.values.has_key("tokens"))
        .group_by(JobMetricRow.job_id)
    )
    return {job_id: float(count) for job_id, count in session.execute(query)}
