"""All SQL of the retrieval service. It writes indexes; jobs and files it only reads.

A project of None means every project: another service asks, and the gateway has already checked whose index it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import FileRow, IndexRow, JobRow
from model_training.contracts.indexes import Index
from model_training.contracts.jobs import JobError, JobKind, JobProgress, JobState
from model_training.contracts.retrieval import SearchOptions


def find_index(session: Session, project_id: str | None, reference: str) -> IndexRow | None:
    """The index with this id, or the newest one with this name."""
    return session.scalar(
        select(IndexRow)
        .where(_of(IndexRow, project_id), or_(IndexRow.id == reference, IndexRow.name == reference))
        .order_by((IndexRow.id == reference).desc(), IndexRow.id.desc())
        .limit(1)
    )


def index_names(session: Session, project_id: str | None) -> list[str]:
    """Names of the project's indexes."""
    return list(session.scalars(select(IndexRow.name).where(_of(IndexRow, project_id)).distinct()))


def find_job(session: Session, project_id: str | None, index_id: str) -> JobRow | None:
    """The job that builds an index."""
    job = session.get(JobRow, index_id)
    if job is None or job.kind != JobKind.INDEX.value or project_id not in (None, job.project_id):
        return None
    return job


def list_indexes(session: Session, project_id: str | None, after: str | None, limit: int) -> list[Index]:
    """Indexes newest first, those included that are being built or could not be; deleted ones are left out."""
    query = (
        select(JobRow, IndexRow)
        .outerjoin(IndexRow, IndexRow.id == JobRow.id)
        .where(
            _of(JobRow, project_id),
            JobRow.kind == JobKind.INDEX.value,
            or_(IndexRow.id.is_not(None), JobRow.state != JobState.SUCCEEDED.value),
        )
        .order_by(JobRow.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(JobRow.id < after)
    return [describe(job, index) for job, index in session.execute(query).tuples()]


def describe(job: JobRow, index: IndexRow | None) -> Index:
    """The index as the API shows it; `index` is None until it is built."""
    return Index(
        id=job.id,
        name=job.spec["name"],
        state=JobState(job.state),
        created_at=job.created_at,
        chunks=index.chunks if index else 0,
        embedder=job.spec.get("embedder", "all-minilm-l6-v2"),
        dimension=index.stamp["embedder"]["dimension"] if index else None,
        search=index.stamp.get("search") if index else None,
        progress=JobProgress.model_validate(job.progress or {}),
        error=JobError.model_validate(job.error) if job.error else None,
    )


def get_index(session: Session, index_id: str) -> IndexRow | None:
    """The built index with this id."""
    return session.get(IndexRow, index_id)


def find_files(session: Session, project_id: str, file_ids: Sequence[str]) -> dict[str, FileRow]:
    """The project's files among these ids, by id."""
    rows = session.scalars(select(FileRow).where(FileRow.project_id == project_id, FileRow.id.in_(file_ids)))
    return {row.id: row for row in rows}


def save_index(session: Session, index: IndexRow) -> None:
    """Store a built index; a repetition after a lost answer replaces it."""
    values = {
        "id": index.id,
        "project_id": index.project_id,
        "name": index.name,
        "chunks": index.chunks,
        "stamp": index.stamp,
    }
    changed = {"chunks": index.chunks, "stamp": index.stamp}
    session.execute(
        insert(IndexRow).values(**values).on_conflict_do_update(index_elements=["id"], set_=changed)
    )


def save_defaults(session: Session, index_id: str, options: SearchOptions) -> None:
    """Keep how an index is searched. It is part of the stamp: what was measured with other defaults is not reused."""
    index = session.get_one(IndexRow, index_id)
    index.stamp = {**index.stamp, "search": options.model_dump(mode="json", exclude_none=True)}


def delete_index(session: Session, index: IndexRow) -> None:
    """Forget a built index."""
    session.delete(index)


def _of(table: type[IndexRow] | type[JobRow], project_id: str | None) -> ColumnElement[bool]:
    return true() if project_id is None else table.project_id == project_id
