"""Which queued job is next: the highest priority, then the project that has least of its share, then the oldest.

A doorbell says only that there is work of a kind. The worker takes the best job there is, which need not be the one that
rang.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, Subquery, cast, func, select
from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow, ProjectRow
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind, JobState

MAX_RUNNING = "max_running_jobs"
"""The key in a project's quotas: how many jobs of any kind, pipelines left out, it may run at once."""

_LEAST_WEIGHT = 0.001


def claim(session: Session, kind: JobKind, owner: str, lease_s: float) -> JobRow | None:
    """Take the best queued job of a kind. None if there is none to take, which is no error: a doorbell may ring twice."""
    job = _next(session, kind, frozenset())
    if job is not None:
        transitions.start(session, job, owner, lease_s)
    return job


def queue_positions(session: Session, kind: JobKind) -> dict[str, int]:
    """For every queued job of a kind, how many are expected to start before it.

    The expectation counts what each project runs now and what stands before the job in its own project's line, as if nothing
    ended meanwhile. Quotas are left out.
    """
    running = _running(kind)
    place = func.row_number().over(
        partition_by=JobRow.project_id, order_by=[_priority().desc(), JobRow.queued_at, JobRow.id]
    )
    ahead = func.coalesce(running.c.same, 0) + place - 1
    query = _queued(kind, running).with_only_columns(
        JobRow.id,
        _priority().label("priority"),
        (ahead / _weight()).label("share"),
        JobRow.queued_at,
    )
    line = query.subquery()
    order = select(line.c.id).order_by(line.c.priority.desc(), line.c.share, line.c.queued_at, line.c.id)
    return {job_id: position for position, job_id in enumerate(session.scalars(order))}


def _next(session: Session, kind: JobKind, full: Collection[str]) -> JobRow | None:
    """The best job outside of the projects that are `full`, locked."""
    running = _running(kind)
    quota = cast(ProjectRow.quotas[MAX_RUNNING].astext, Float)
    query = (
        _queued(kind, running)
        .add_columns(quota)
        .where(quota.is_(None) | (func.coalesce(running.c.all, 0) < quota), JobRow.project_id.not_in(full))
        .order_by(
            _priority().desc(), func.coalesce(running.c.same, 0) / _weight(), JobRow.queued_at, JobRow.id
        )
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True, of=JobRow)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    job, limit = found
    if limit is not None and not _has_room(session, job.project_id, limit):
        return _next(session, kind, {*full, job.project_id})
    return job


def _has_room(session: Session, project_id: str, limit: float) -> bool:
    """Whether a project may run one more, seen under its lock: another worker may have claimed since we looked."""
    session.execute(select(ProjectRow.id).where(ProjectRow.id == project_id).with_for_update(key_share=True))
    running = select(func.count()).where(JobRow.project_id == project_id, _is_running())
    return (session.scalar(running) or 0) < limit


def _is_running() -> ColumnElement[bool]:
    held = [state.value for state in transitions.HELD]
    return JobRow.state.in_(held) & (JobRow.kind != JobKind.PIPELINE.value)


def _running(kind: JobKind) -> Subquery:
    same = func.count().filter(JobRow.kind == kind.value)
    counts = select(JobRow.project_id, func.count().label("all"), same.label("same"))
    return counts.where(_is_running()).group_by(JobRow.project_id).subquery("running")


def _queued(kind: JobKind, running: Subquery) -> Select[Any]:
    return (
        select(JobRow)
        .join(ProjectRow, ProjectRow.id == JobRow.project_id)
        .outerjoin(running, running.c.project_id == JobRow.project_id)
        .where(JobRow.kind == kind.value, JobRow.state == JobState.QUEUED.value)
    )


def _priority() -> ColumnElement[int]:
    return JobRow.priority + ProjectRow.priority


def _weight() -> ColumnElement[float]:
    return func.greatest(ProjectRow.weight, _LEAST_WEIGHT)
