"""All SQL of the gateway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, String, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from libs.common.db.tables import (
    ApiKeyRow,
    ArtifactRow,
    CheckpointRow,
    ConfigVersionRow,
    FileRow,
    IdempotencyRow,
    IndexRow,
    JobEventRow,
    JobMetricRow,
    JobRow,
    ModelAliasRow,
    ModelRow,
    PipelineStepRow,
    ProjectRow,
    SweepRunRow,
)
from libs.common.jobs import scheduling, transitions
from model_training.contracts.jobs import JobKind, JobState
from services.gateway.domain import CHANGES

Row = TypeVar("Row", FileRow, JobRow, ModelRow, IndexRow, ApiKeyRow)
Listed = TypeVar("Listed", FileRow, JobRow, ModelRow, IndexRow, ApiKeyRow, ProjectRow)


def ensure_project(session: Session, project_id: str, name: str) -> None:
    """Create a project if it is not there."""
    session.execute(insert(ProjectRow).values(id=project_id, name=name).on_conflict_do_nothing())


def get(session: Session, table: type[Row], project_id: str, id: str) -> Row | None:
    """A row of a project by its id."""
    return session.scalars(_by_id(table), {"id": id, "project_id": project_id}).one_or_none()


@cache  # building a statement takes as long as finding the row, and this one is asked for with every request
def _by_id(table: type[Row]) -> Select[Row]:
    return select(table).where(table.id == bindparam("id"), table.project_id == bindparam("project_id"))


def page(
    session: Session,
    table: type[Row],
    project_id: str,
    *,
    after: str | None,
    limit: int,
    where: Sequence[ColumnElement[bool]] = (),
) -> tuple[list[Row], bool]:
    """Rows of a project, newest first, and whether there are more. Ids sort by time."""
    return _cut(session, table, [table.project_id == project_id, *where], after, limit)


def projects(
    session: Session, only: str | None, after: str | None, limit: int
) -> tuple[list[ProjectRow], bool]:
    """Projects, newest first, and whether there are more; `only` one if it is given."""
    where = [ProjectRow.id == only] if only is not None else []
    return _cut(session, ProjectRow, where, after, limit)


def _cut(
    session: Session, table: type[Listed], where: Sequence[ColumnElement[bool]], after: str | None, limit: int
) -> tuple[list[Listed], bool]:
    query = select(table).where(*where)
    if after is not None:
        query = query.where(_suffix(table.id) < after.partition("_")[2])
    rows = list(session.scalars(query.order_by(_suffix(table.id).desc()).limit(limit + 1)).all())
    return rows[:limit], len(rows) > limit


def _suffix(column: InstrumentedAttribute[str]) -> ColumnElement[str]:
    # Ids of several kinds share one list of jobs; only what follows the prefix sorts by time.
    return func.split_part(column, "_", 2)


def newest_index(session: Session, project_id: str, name: str) -> IndexRow | None:
    """The newest index of a name, or the index of an id."""
    return session.scalars(
        select(IndexRow)
        .where(IndexRow.project_id == project_id, (IndexRow.name == name) | (IndexRow.id == name))
        .order_by(IndexRow.id.desc())
        .limit(1)
    ).one_or_none()


def model_of_job(session: Session, job_id: str) -> ModelRow | None:
    """The model that a training job made."""
    return session.scalars(select(ModelRow).where(ModelRow.job_id == job_id)).first()


def model_of_artifact(session: Session, project_id: str, artifact: str) -> ModelRow | None:
    """The project's oldest model with this adapter."""
    query = select(ModelRow).where(ModelRow.project_id == project_id, ModelRow.artifact == artifact)
    return session.scalars(query.order_by(ModelRow.id).limit(1)).one_or_none()


def checkpoints(session: Session, job_id: str) -> list[CheckpointRow]:
    """Committed checkpoints of a job, newest first."""
    query = select(CheckpointRow).where(CheckpointRow.job_id == job_id).order_by(CheckpointRow.step.desc())
    return list(session.scalars(query).all())


def queue_position(session: Session, job: JobRow) -> int | None:
    """How many jobs of the same kind are expected to start before this one; None if it does not wait."""
    return scheduling.queue_position(session, job)


def events_after(session: Session, job_id: str, sequence: int, limit: int) -> list[JobEventRow]:
    """Events with a larger sequence, oldest first."""
    query = (
        select(JobEventRow)
        .where(JobEventRow.job_id == job_id, JobEventRow.sequence > sequence)
        .order_by(JobEventRow.sequence)
        .limit(limit)
    )
    return list(session.scalars(query).all())


def events_before(session: Session, job_id: str, sequence: int | None, limit: int) -> list[JobEventRow]:
    """Events with a smaller sequence, newest first."""
    query = select(JobEventRow).where(JobEventRow.job_id == job_id)
    if sequence is not None:
        query = query.where(JobEventRow.sequence < sequence)
    return list(session.scalars(query.order_by(JobEventRow.sequence.desc()).limit(limit)).all())


def metrics(session: Session, job_id: str, after_step: int, limit: int) -> list[JobMetricRow]:
    """Metric points after a step, in order."""
    query = (
        select(JobMetricRow)
        .where(JobMetricRow.job_id == job_id, JobMetricRow.step > after_step)
        .order_by(JobMetricRow.step)
        .limit(limit)
    )
    return list(session.scalars(query).all())


def job_using(session: Session, project_id: str, name: str) -> str | None:
    """An unfinished job whose spec names an id, be it within another name."""
    named = cast(JobRow.spec, String).contains(
        name, autoescape=True
    )  # an id is random enough to be found in text
    unfinished = JobRow.finished_at.is_(None)
    return session.scalar(
        select(JobRow.id).where(JobRow.project_id == project_id, unfinished, named).limit(1)
    )


def content_is_used(session: Session, sha256: str) -> bool:
    """Whether any file still has this content."""
    return session.scalar(select(FileRow.id).where(FileRow.sha256 == sha256).limit(1)) is not None


def add_artifact(session: Session, artifact: ArtifactRow) -> None:
    """Record an artifact; the same content may be recorded again."""
    values = {
        "sha256": artifact.sha256,
        "kind": artifact.kind,
        "bytes": artifact.bytes,
        "job_id": artifact.job_id,
    }
    session.execute(insert(ArtifactRow).values(values).on_conflict_do_nothing())


def idempotent_answer(session: Session, project_id: str, key: str) -> IdempotencyRow | None:
    """The stored answer of a key, after waiting for a request with the same key that is under way."""
    lock_name(session, f"{project_id}/{key}")
    return session.get(IdempotencyRow, (project_id, key))


def of_kind(kind: JobKind) -> ColumnElement[bool]:
    """A filter for jobs of a kind."""
    return JobRow.kind == kind.value


def job(session: Session, job_id: str) -> JobRow:
    """The job of an id that is known to exist."""
    return session.get_one(JobRow, job_id)


def model_of_alias(session: Session, project_id: str, alias: str) -> str | None:
    """The model that an alias points to now."""
    row = newest_alias(session, project_id, alias)
    return row.model if row else None


def pipeline_steps(session: Session, pipeline_ids: Sequence[str]) -> list[PipelineStepRow]:
    """The steps of pipelines, in their order."""
    query = select(PipelineStepRow).where(PipelineStepRow.pipeline_id.in_(pipeline_ids))
    return list(session.scalars(query.order_by(PipelineStepRow.pipeline_id, PipelineStepRow.position)).all())


def sweep_runs(session: Session, sweep_ids: Sequence[str]) -> list[SweepRunRow]:
    """The runs of sweeps: by sweep, trial and seed."""
    query = select(SweepRunRow).where(SweepRunRow.sweep_id.in_(sweep_ids))
    return list(
        session.scalars(query.order_by(SweepRunRow.sweep_id, SweepRunRow.trial, SweepRunRow.seed)).all()
    )


def models_of_others(session: Session, project_id: str, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are tuned models of other projects."""
    query = select(ModelRow.id).where(ModelRow.id.in_(ids), ModelRow.project_id != project_id)
    return set(session.scalars(query))


def jobs_by_id(session: Session, ids: Iterable[str]) -> dict[str, JobRow]:
    """Jobs by their ids; those that do not exist are missing."""
    return {row.id: row for row in session.scalars(select(JobRow).where(JobRow.id.in_(list(ids))))}


def open_retry(session: Session, project_id: str, pipeline_id: str) -> str | None:
    """A pipeline that retries this one and has not ended."""
    return session.scalar(
        select(JobRow.id)
        .where(
            JobRow.project_id == project_id,
            of_kind(JobKind.PIPELINE),
            JobRow.finished_at.is_(None),
            JobRow.spec["retry_of"].astext == pipeline_id,
        )
        .limit(1)
    )


def succeeded_with_inputs(
    session: Session, project_id: str, input_hash: str, pipeline_id: str | None
) -> list[JobRow]:
    """Jobs of the project that succeeded on these inputs, newest first; of one pipeline's steps if one is given."""
    query = select(JobRow).where(
        JobRow.project_id == project_id,
        JobRow.input_hash == input_hash,
        JobRow.state == JobState.SUCCEEDED.value,
    )
    if pipeline_id is not None:
        steps = select(PipelineStepRow.job_id).where(PipelineStepRow.pipeline_id == pipeline_id)
        query = query.where(JobRow.id.in_(steps))
    return list(session.scalars(query.order_by(JobRow.id.desc()).limit(10)).all())


def result_exists(session: Session, job: JobRow) -> bool:
    """Whether what a succeeded job made can still be used: its model, its index, its report."""
    result = job.result or {}
    match JobKind(job.kind):
        case JobKind.TRAIN:
            model = session.get(ModelRow, result.get("model_id", ""))
            return model is not None and model.state != "refused"
        case JobKind.INDEX:
            return session.get(IndexRow, job.id) is not None
        case JobKind.COMPARE:
            return session.get(ArtifactRow, result.get("artifact", "")) is not None
        case _:
            return job.result is not None


def project(session: Session, project_id: str) -> ProjectRow | None:
    """A project by its id."""
    return session.get(ProjectRow, project_id)


def project_named(session: Session, name: str) -> ProjectRow | None:
    """A project by its name."""
    return session.scalars(select(ProjectRow).where(ProjectRow.name == name)).one_or_none()


def locked_project(session: Session, project_id: str) -> ProjectRow | None:
    """A project, locked until the transaction ends and read afresh, so that what is counted stays true."""
    query = select(ProjectRow).where(ProjectRow.id == project_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def open_jobs(session: Session, project_id: str, created_by: str | None, most: int) -> int:
    """Unfinished jobs of a project, or of one key in it, counted no further than `most`."""
    return session.scalar(_open_jobs(project_id, created_by, most)) or 0


def quotas_and_open_jobs(
    session: Session, project_id: str, key_id: str | None, most: tuple[int, int]
) -> tuple[dict[str, Any] | None, int, int]:
    """A project's quotas, and the unfinished jobs of the project and of a key, counted as far as `most`."""
    row = session.execute(
        select(
            select(ProjectRow.quotas).where(ProjectRow.id == project_id).scalar_subquery(),
            _open_jobs(project_id, None, most[0]).scalar_subquery(),
            _open_jobs(project_id, key_id or "", most[1]).scalar_subquery(),
        )
    ).one()
    return row[0], row[1], row[2]


def _open_jobs(project_id: str, created_by: str | None, most: int) -> Select[int]:
    query = select(JobRow.id).where(JobRow.project_id == project_id, JobRow.finished_at.is_(None))
    if created_by is not None:
        query = query.where(JobRow.created_by == created_by)
    return select(func.count()).select_from(query.limit(most).subquery())


def running_jobs(session: Session, project_id: str) -> int:
    """Jobs of a project that a worker holds."""
    held = [state.value for state in transitions.HELD]
    query = select(func.count()).where(JobRow.project_id == project_id, JobRow.state.in_(held))
    return session.scalar(query.where(JobRow.finished_at.is_(None))) or 0


def stored_bytes(session: Session, project_id: str) -> int:
    """Bytes of all files of a project; the same bytes in two files count twice."""
    return int(session.scalar(select(func.sum(FileRow.bytes)).where(FileRow.project_id == project_id)) or 0)


def newest_alias(session: Session, project_id: str, alias: str) -> ModelAliasRow | None:
    """Where an alias points now."""
    query = select(ModelAliasRow).where(ModelAliasRow.project_id == project_id, ModelAliasRow.alias == alias)
    return session.scalars(query.order_by(ModelAliasRow.version.desc()).limit(1)).first()


def alias_version(session: Session, project_id: str, alias: str, version: int) -> ModelAliasRow | None:
    """Where an alias pointed from a version on."""
    return session.get(ModelAliasRow, (project_id, alias, version))


def alias_history(
    session: Session, project_id: str, alias: str, before: int | None, limit: int
) -> list[ModelAliasRow]:
    """Moves of an alias, newest first."""
    query = select(ModelAliasRow).where(ModelAliasRow.project_id == project_id, ModelAliasRow.alias == alias)
    if before is not None:
        query = query.where(ModelAliasRow.version < before)
    return list(session.scalars(query.order_by(ModelAliasRow.version.desc()).limit(limit)).all())


def config_history(session: Session, section: str, before: int | None, limit: int) -> list[ConfigVersionRow]:
    """Changes of a section, newest first."""
    query = select(ConfigVersionRow).where(ConfigVersionRow.section == section)
    if before is not None:
        query = query.where(ConfigVersionRow.version < before)
    return list(session.scalars(query.order_by(ConfigVersionRow.version.desc()).limit(limit)).all())


def config_version(session: Session, section: str, version: int) -> ConfigVersionRow | None:
    """One change of a section."""
    return session.get(ConfigVersionRow, (section, version))


def tell_of_change(session: Session) -> None:
    """Have every process forget what it remembers of keys, quotas and configuration, once the transaction commits."""
    session.execute(select(func.pg_notify(CHANGES, "")))


def lock_name(session: Session, name: str) -> None:
    """Let one transaction at a time change what goes by this name."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def finished_training(
    session: Session, project_id: str, base: str, limit: int
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Results of a base's newest successful training jobs, each with the report of its file, None if that is gone."""
    query = (
        select(JobRow.result, FileRow.report)
        .outerjoin(FileRow, FileRow.id == JobRow.spec["training_file"].astext)
        .where(
            JobRow.project_id == project_id,
            JobRow.kind == JobKind.TRAIN.value,
            JobRow.state == JobState.SUCCEEDED.value,
            JobRow.spec["model"].astext == base,
        )
        .order_by(JobRow.id.desc())
        .limit(limit)
    )
    return [(result or {}, report) for result, report in session.execute(query)]
