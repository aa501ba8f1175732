"""All SQL of the comparator. It writes artifacts; jobs and files it only reads."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import ArtifactRow, FileRow, JobRow
from model_training.contracts.jobs import JobKind


def find_comparison(session: Session, comparison_id: str) -> JobRow | None:
    """The job of a comparison."""
    return session.scalars(
        select(JobRow).where(JobRow.id == comparison_id, JobRow.kind == JobKind.COMPARE.value)
    ).one_or_none()


def find_files(session: Session, project_id: str, ids: Iterable[str]) -> dict[str, FileRow]:
    """Files of the project by id; those that are not there are missing."""
    rows = session.scalars(select(FileRow).where(FileRow.project_id == project_id, FileRow.id.in_(list(ids))))
    return {row.id: row for row in rows}


def save_artifact(session: Session, sha256: str, size: int, job_id: str) -> None:
    """Register a stored report; the same content registered twice is one artifact."""
    row = insert(ArtifactRow).values(sha256=sha256, kind="report", bytes=size, job_id=job_id)
    session.execute(row.on_conflict_do_nothing(index_elements=["sha256"]))
