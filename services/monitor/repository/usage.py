"""What jobs and models have used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import JobMetricRow, JobUsageRow, ModelRow, ModelUsageRow
from model_training.contracts.monitoring import JobUsage, ModelUsage


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


def of_models(session: Session, names: Sequence[str] | None = None, limit: int = 1000) -> list[ModelUsage]:
    """What models have used while they answered, and what their trainings used; those that worked last come first.

    Args:
        names: these alone.
    """
    query = (
        select(ModelUsageRow.data, JobUsageRow.data)
        .outerjoin(ModelRow, ModelRow.id == ModelUsageRow.model)
        .outerjoin(JobUsageRow, JobUsageRow.job_id == ModelRow.job_id)
        .order_by(ModelUsageRow.updated_at.desc(), ModelUsageRow.model)
        .limit(limit)
    )
    if names is not None:
        query = query.where(ModelUsageRow.model.in_(names))
    return [
        ModelUsage.model_validate({**data, "training": training}) for data, training in session.execute(query)
    ]


def put_model(session: Session, usage: ModelUsage, at: datetime) -> None:
    """Write down what a model has used so far."""
    values = {"data": usage.model_dump(mode="json", exclude={"training"}), "updated_at": at}
    session.execute(
        insert(ModelUsageRow)
        .values(model=usage.model, **values)
        .on_conflict_do_update(index_elements=["model"], set_=values)
    )
