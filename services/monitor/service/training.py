"""How a training is going: newest values, when it ends, what is noticed."""

from __future__ import annotations

from sqlalchemy.orm import Session

from model_training.contracts.monitoring import RunningJob
from services.monitor.repository import jobs


def describe(session: Session, job: RunningJob) -> RunningJob:
    """The job with the newest value of each metric."""
    values: dict[str, float] = {}
    for step in jobs.steps(session, job.id, jobs.NEWEST):
        values |= step.values
    return job.model_copy(update={"values": values})
