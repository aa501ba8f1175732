"""Which queued job is next: the highest priority, then the project that has least of its share, then the oldest.

A doorbell says only that there is work of a kind. The worker takes the best job there is, which need not be the one that
rang. A job's priority is its own and its project's, added. A project's share is the number of jobs of this kind that it
runs, divided by its weight.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Subquery,
    and_,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session, aliased

from libs.common.db.tables import JobRow, ProjectRow
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind, JobState

MAX_RUNNING = "max_running_jobs"
"""The key in a project's quotas: how many jobs of any kind, pipelines left out, it may run at once."""

CANDIDATES = 100
"""Jobs of a project that are looked at: more than workers that claim in the same instant."""

_LEAST_WEIGHT = 0.001
_QUEUED = literal_column("'queued'")  # written out, so that PostgreSQL sees that the partial index fits


def claim(session: Session, kind: JobKind, owner: str, lease_s: float) -> JobRow | None:
    """Take the best queued job of a kind. None if there is none to take, which is no error: a doorbell may ring twice."""
    job = _next(session, kind, frozenset())
    if job is not None:
        transitions.start(session, job, owner, lease_s)
    return job


def queue_position(session: Session, job: JobRow) -> int | None:
    """How many jobs of its kind are expected to start before this one; None if it does not wait.

    The expectation counts what each project runs now and what stands before the job in its own project's line, as if nothing
    ended meanwhile. Quotas are left out, and jobs of other projects with the very same share count as later.
    """
    if job.state != JobState.QUEUED.value:
        return None
    ahead = session.scalar(
        select(func.count()).where(
            JobRow.kind == job.kind,
            JobRow.state == _QUEUED,
            JobRow.project_id == job.project_id,
            or_(
                JobRow.priority > job.priority,
                and_(JobRow.priority == job.priority, JobRow.queued_at < job.queued_at),
            ),
        )
    )
    return (ahead or 0) + _ahead_elsewhere(session, job, ahead or 0)


def _ahead_elsewhere(session: Session, job: JobRow, ahead: int) -> int:
    """How many jobs of other projects come before one that has `ahead` of its own project's before it."""
    waiting = exists().where(
        JobRow.kind == job.kind, JobRow.state == _QUEUED, JobRow.project_id == ProjectRow.id
    )
    if not session.scalar(select(ProjectRow.id).where(ProjectRow.id != job.project_id, waiting).limit(1)):
        return 0  # the usual case, told without reading the whole queue
    lines = _lines(session, JobKind(job.kind))
    own = lines.pop(job.project_id)
    priority = job.priority + own.priority
    share = (own.running + ahead) / own.weight
    return sum(line.above(priority) + line.before(share, priority) for line in lines.values())


class _Line:
    """What one project runs, and how many of its jobs wait at each priority (the project's own added)."""

    def __init__(self, priority: int, weight: float, running: int) -> None:
        self.priority = priority
        self.weight = max(weight, _LEAST_WEIGHT)
        self.running = running
        self.waiting: dict[int, int] = {}

    def above(self, priority: int) -> int:
        """Jobs of higher priority."""
        return sum(count for other, count in self.waiting.items() if other > priority)

    def before(self, share: float, priority: int) -> int:
        """Jobs of this priority whose turn comes while the project's share is below `share`."""
        turns = math.ceil(share * self.weight - self.running - self.above(priority))
        return min(max(turns, 0), self.waiting.get(priority, 0))


def _lines(session: Session, kind: JobKind) -> dict[str, _Line]:
    running = _running(kind)
    groups = (
        select(JobRow.project_id, JobRow.priority, func.count().label("count"))
        .where(JobRow.kind == kind.value, JobRow.state == _QUEUED)
        .group_by(JobRow.project_id, JobRow.priority)
        .subquery()
    )
    query = (
        select(ProjectRow.id, ProjectRow.priority, ProjectRow.weight, func.coalesce(running.c.same, 0))
        .add_columns(groups.c.priority, groups.c.count)
        .join(groups, groups.c.project_id == ProjectRow.id)
        .outerjoin(running, running.c.project_id == ProjectRow.id)
    )
    lines: dict[str, _Line] = {}
    for project, priority, weight, runs, own_priority, count in session.execute(query):
        line = lines.setdefault(project, _Line(priority, weight, runs))
        line.waiting[priority + own_priority] = count
    return lines


def _next(session: Session, kind: JobKind, full: Collection[str]) -> JobRow | None:
    """The best job outside of the projects that are `full`, locked."""
    running, line = _running(kind), _line(kind)
    quota: Any = cast(ProjectRow.quotas[MAX_RUNNING].astext, Float)
    share = func.coalesce(running.c.same, 0) / func.greatest(ProjectRow.weight, _LEAST_WEIGHT)
    query = (
        select(JobRow, quota)
        .select_from(ProjectRow)
        .join(line, true())
        .join(JobRow, JobRow.id == line.c.id)
        .outerjoin(running, running.c.project_id == ProjectRow.id)
        .where(
            JobRow.state == _QUEUED,
            quota.is_(None) | (func.coalesce(running.c.all, 0) < quota),
            ProjectRow.id.not_in(full),
        )
        .order_by((JobRow.priority + ProjectRow.priority).desc(), share, JobRow.queued_at, JobRow.id)
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
    return JobRow.lease_owner.is_not(None)  # nobody holds a pipeline


def _running(kind: JobKind) -> Subquery:
    same = func.count().filter(JobRow.kind == kind.value)
    counts = select(JobRow.project_id, func.count().label("all"), same.label("same"))
    return counts.where(_is_running()).group_by(JobRow.project_id).subquery("running")


def _line(kind: JobKind) -> Any:
    """The first jobs in each project's own line, read from its index however long the line is."""
    waiting = aliased(JobRow)
    return (
        select(waiting.id)
        .where(waiting.kind == kind.value, waiting.state == _QUEUED, waiting.project_id == ProjectRow.id)
        .order_by(waiting.priority.desc(), waiting.queued_at, waiting.id)
        .limit(CANDIDATES)
        .correlate(ProjectRow)
        .lateral("line")
    )
