"""All SQL of the trainer: the files of a job, its checkpoints, its artifact and model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.db.tables import ArtifactRow, CheckpointRow, FileRow, JobRow, ModelRow
from libs.common.ids import new_id


def find_file(session: Session, project_id: str, file_id: str) -> FileRow | None:
    """A file of the project, None if there is none of that id."""
    return session.scalar(select(FileRow).where(FileRow.id == file_id, FileRow.project_id == project_id))


def put_checkpoint(session: Session, job: JobRow, data: dict[str, Any]) -> None:
    """Record a checkpoint; one of an earlier attempt at the same step is replaced."""
    values = {name: data[name] for name in ("path", "sha256", "metrics")}
    row = insert(CheckpointRow).values(id=new_id("ckpt"), job_id=job.id, step=data["step"], **values)
    session.execute(row.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))


def keep_only_checkpoints(session: Session, job: JobRow, steps: Collection[int]) -> None:
    """Forget the checkpoints of a job at all other steps."""
    others = CheckpointRow.step.not_in(steps)
    session.execute(delete(CheckpointRow).where(CheckpointRow.job_id == job.id, others))


def remove_checkpoint(session: Session, job: JobRow, step: int) -> None:
    """Forget a checkpoint whose files are gone."""
    session.execute(delete(CheckpointRow).where(CheckpointRow.job_id == job.id, CheckpointRow.step == step))


def add_artifact(session: Session, job: JobRow, sha256: str, size: int, kind: str) -> None:
    """Record an adapter or a model in the artifact store; the same content may be there already."""
    row = insert(ArtifactRow).values(sha256=sha256, kind=kind, bytes=size, job_id=job.id)
    session.execute(row.on_conflict_do_nothing())


def add_model(session: Session, job: JobRow, model: ModelRow) -> None:
    """Publish a tuned model under the job's project."""
    model.project_id, model.job_id = job.project_id, job.id
    session.add(model)
    session.flush()
