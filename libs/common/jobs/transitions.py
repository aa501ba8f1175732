"""The one place that changes a job's state, and the list of changes that are legal.

Every function works inside the caller's transaction and locks the job's row first. Times come from the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Boolean, String, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from libs.common import tracing
from libs.common.db.tables import JobRow, OutboxRow, ProjectRow
from libs.common.errors import IllegalTransition, LeaseLost, NotFound
from libs.common.ids import JOB_PREFIX, new_id
from libs.common.jobs import events
from model_training.contracts.jobs import DRIVEN, FINAL_STATES, JobError, JobKind, JobState

S = JobState
LEGAL: Mapping[JobState, frozenset[JobState]] = {
    S.VALIDATING_FILES: frozenset({S.QUEUED, S.FAILED, S.CANCELLED}),
    S.QUEUED: frozenset({S.RUNNING, S.PAUSED, S.CANCELLED, S.FAILED}),
    S.RUNNING: frozenset({S.PAUSING, S.CANCELLING, S.QUEUED, S.SUCCEEDED, S.FAILED}),
    S.PAUSING: frozenset({S.PAUSED, S.CANCELLING, S.SUCCEEDED, S.FAILED}),
    S.PAUSED: frozenset({S.QUEUED, S.CANCELLED}),
    S.CANCELLING: frozenset({S.CANCELLED, S.SUCCEEDED, S.FAILED}),
    S.CANCELLED: frozenset(),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
}
"""From each state, the states that may follow."""

HELD = frozenset({S.RUNNING, S.PAUSING, S.CANCELLING})
"""States in which a worker holds the lease."""

Stop = Literal["pause", "cancel"]


def create(
    session: Session,
    kind: JobKind,
    project_id: str,
    spec: dict[str, Any],
    *,
    metadata: dict[str, str] | None = None,
    max_attempts: int = 3,
    priority: int = 0,
    pipeline_id: str | None = None,
    input_hash: str | None = None,
    created_by: str | None = None,
) -> JobRow:
    """A new job, queued, with its first event, its doorbell in the outbox and its line in the audit log, or nothing.

    Args:
        priority: added to the project's; the higher sum runs first.
        pipeline_id: the pipeline that the job is a step of.
        input_hash: what the work depends on; a finished job with the same hash may be used again.
        created_by: the key that asked for it.
    """
    job_id = new_id(JOB_PREFIX[kind])
    values = {
        "id": job_id,
        "project_id": project_id,
        "kind": kind.value,
        "spec": spec,
        "meta": metadata or {},
        "max_attempts": max_attempts,
        "priority": priority,
        "pipeline_id": pipeline_id,
        "input_hash": input_hash,
        "created_by": created_by,
        "traceparent": tracing.context(),
        # The keeper's drivers find theirs by themselves.
        "rings": kind not in DRIVEN,
        "data": {"state": S.QUEUED.value},
    }
    return session.scalars(_CREATE, values).one()


# One statement, and written out: submissions are many, each round trip counts, and so does building a statement each time.
_CREATE = select(JobRow).from_statement(
    text("""
        with event as (
            insert into job_events (job_id, sequence, level, type, message, data, created_at)
            values (:id, 1, 'info', 'state', 'The job is queued.', :data, clock_timestamp())
        ), doorbell as (
            insert into outbox (job_id, queue) select :id, :kind where :rings
        ), audit as (
            insert into audit_log (id, project_id, actor, action, target)
            select 'aud_' || split_part(:id, '_', 2), :project_id, :created_by, 'job.created', :id
            where :created_by is not null
        )
        insert into jobs (
            id, project_id, kind, state, spec, metadata, max_attempts, last_sequence, priority, pipeline_id, input_hash,
            created_by, traceparent, queued_at, rung_at
        ) values (
            :id, :project_id, :kind, 'queued', :spec, :meta, :max_attempts, 1, :priority, :pipeline_id, :input_hash,
            :created_by, :traceparent, clock_timestamp(), case when :rings then clock_timestamp() end
        ) returning *
    """).bindparams(
        bindparam("id", type_=String),
        bindparam("kind", type_=String),
        bindparam("created_by", type_=String),
        bindparam("traceparent", type_=String),
        bindparam("rings", type_=Boolean),
        bindparam("spec", type_=JSONB),
        bindparam("meta", type_=JSONB),
        bindparam("data", type_=JSONB),
    )
)


def locked(session: Session, job_id: str) -> JobRow:
    """The job's row, locked for this transaction and read afresh.

    Raises:
        NotFound: there is no such job.
    """
    job = session.scalars(
        select(JobRow)
        .where(JobRow.id == job_id)
        .with_for_update(key_share=True)  # rows that refer to the job may be written meanwhile
        .execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id!r}.", param="id")
    return job


def fenced(session: Session, job_id: str, fence: int) -> JobRow:
    """The locked row of a job that this worker still holds.

    Raises:
        LeaseLost: another claim has been made since, or the job has ended.
    """
    job = locked(session, job_id)
    if job.fence != fence or S(job.state) not in HELD:
        raise LeaseLost(f"job {job_id}: fence {fence} is no longer valid (now {job.fence}, {job.state})")
    return job


def claim(session: Session, job_id: str, owner: str, lease_s: float) -> JobRow | None:
    """Take this very job, if it is queued and nobody else is taking it; None otherwise. Workers use `scheduling.claim`."""
    job = session.scalars(
        select(JobRow)
        .where(JobRow.id == job_id, JobRow.state == S.QUEUED.value)
        .with_for_update(skip_locked=True, key_share=True)
    ).one_or_none()
    if job is not None:
        start(session, job, owner, lease_s)
    return job


def start(session: Session, job: JobRow, owner: str, lease_s: float) -> None:
    """A worker begins an attempt at a queued job that it has locked. The fence shuts out whoever held the job before."""
    require(job, S.RUNNING)
    job.attempt += 1
    job.fence += 1
    job.lease_owner = owner
    job.started_at = job.started_at or session.scalar(select(func.clock_timestamp()))
    _extend(session, job, lease_s)
    text = f"Attempt {job.attempt} of {job.max_attempts} starts."
    _change(session, job, S.RUNNING, text, data={"fence": job.fence})


def begin(session: Session, job: JobRow, message: str) -> None:
    """A queued job that the keeper drives starts or goes on. Nobody holds a lease of it that could run out."""
    require(job, S.RUNNING)
    job.attempt = 1
    job.started_at = job.started_at or session.scalar(select(func.clock_timestamp()))
    _change(session, job, S.RUNNING, message)


def heartbeat(session: Session, job_id: str, fence: int, lease_s: float) -> Stop | None:
    """Extend the lease and say whether somebody wants the job to stop.

    Raises:
        LeaseLost: the job is no longer this worker's.
    """
    job = fenced(session, job_id, fence)
    renew(session, job, lease_s)
    return stop_of(job)


def renew(session: Session, job: JobRow, lease_s: float) -> None:
    """Extend the lease of a job that was just read with `fenced`."""
    _extend(session, job, lease_s)


def stop_of(job: JobRow) -> Stop | None:
    """What the job was asked to do: cancelling wins over pausing."""
    if job.cancel_requested:
        return "cancel"
    return "pause" if job.pause_requested else None


def request_cancel(session: Session, job: JobRow, why: JobError | None = None) -> None:
    """Ask a job to end. One that no worker holds ends at once; asking twice is no error.

    Args:
        why: kept with the job, where the platform ends it and not a user.

    Raises:
        IllegalTransition: the job has succeeded or failed already.
    """
    if S(job.state) in (S.CANCELLED, S.CANCELLING):
        return
    held = S(job.state) in HELD
    require(job, S.CANCELLING if held else S.CANCELLED)
    job.cancel_requested = True
    if why is not None:
        job.error = why.model_dump(mode="json", exclude_none=True)
        events.append(session, job, why.message, data={"error": job.error})
    if held:
        _change(session, job, S.CANCELLING, "Cancelling was asked for; the worker is stopping.")
    else:
        _finish(session, job, S.CANCELLED, "The job was cancelled before it ran.")


def request_pause(session: Session, job: JobRow) -> None:
    """Ask a job to stop where it can go on later; asking twice is no error.

    Raises:
        IllegalTransition: the job has ended or is being cancelled.
    """
    if S(job.state) in (S.PAUSED, S.PAUSING):
        return
    waiting = S(job.state) is S.QUEUED
    text = "The job is paused." if waiting else "Pausing was asked for; the worker is writing a checkpoint."
    _change(session, job, S.PAUSED if waiting else S.PAUSING, text)
    job.pause_requested = True


def resume(session: Session, job: JobRow) -> None:
    """Queue a paused job again.

    Raises:
        IllegalTransition: the job is not paused.
    """
    if S(job.state) is not S.PAUSED:
        raise _illegal(job, S.QUEUED)
    job.pause_requested = False
    _change(session, job, S.QUEUED, "The job is queued again.")
    _ring(session, job)


def succeed(session: Session, job: JobRow, result: dict[str, Any]) -> None:
    """End a job well. Also when it was being paused or cancelled: the work was done before the request reached it."""
    require(job, S.SUCCEEDED)
    job.result, job.error = result, None  # an error may say why it was being cancelled
    job.progress = {**job.progress, "fraction": 1.0, "eta_s": 0.0}
    _finish(session, job, S.SUCCEEDED, "The job succeeded.")


def fail(session: Session, job: JobRow, error: JobError) -> None:
    """End a job with the reason."""
    require(job, S.FAILED)
    job.error = error.model_dump(mode="json", exclude_none=True)
    _finish(session, job, S.FAILED, error.message, level="error", data={"error": job.error})


def stopped(session: Session, job: JobRow) -> None:
    """The worker has honoured a request to stop: paused, or cancelled. An attempt that ends so does not count."""
    if job.cancel_requested:
        _finish(session, job, S.CANCELLED, "The job was cancelled; what it had committed stays.")
        return
    _require_held(job, S.PAUSED)
    job.attempt -= 1
    _release(session, job)
    _change(session, job, S.PAUSED, "The job is paused; the worker is free.")


def release(session: Session, job: JobRow, reason: str) -> None:
    """Give a job back to the queue without counting the attempt, because the worker is shutting down."""
    _require_held(job, S.QUEUED)
    if stop_of(job) is not None:
        stopped(session, job)
        return
    job.attempt -= 1
    _queue_again(session, job, reason)


def lose(session: Session, job: JobRow, error: JobError) -> None:
    """The attempt died. Queue the job again, or fail it for good after the last attempt. Each reason stays in its events."""
    _require_held(job, S.QUEUED)
    if stop_of(job) is not None:
        stopped(session, job)
        return
    if job.attempt >= job.max_attempts:
        tried = f"{error.message} It was tried {job.attempt} times."
        fail(session, job, error.model_copy(update={"message": tried}))
        return
    data = {"error": error.model_dump(mode="json", exclude_none=True), "attempt": job.attempt}
    events.append(session, job, error.message, level="warn", data=data)
    text = f"Attempt {job.attempt} of {job.max_attempts} was lost; the job is queued again."
    _queue_again(session, job, text)


def _queue_again(session: Session, job: JobRow, message: str) -> None:
    queued_at = job.queued_at
    _release(session, job)
    _change(session, job, S.QUEUED, message)
    _ring(session, job)
    job.queued_at = queued_at  # it keeps its place in the line


def require(job: JobRow, to: JobState) -> None:
    """Refuse a change that is not in the list.

    Raises:
        IllegalTransition: it names both states and what is legal.
    """
    if to not in LEGAL[S(job.state)]:
        raise _illegal(job, to)


def _require_held(job: JobRow, to: JobState) -> None:
    if S(job.state) not in HELD:
        raise _illegal(job, to)


def _change(
    session: Session, job: JobRow, to: JobState, message: str, *, data: dict[str, Any] | None = None
) -> None:
    require(job, to)
    job.state = to.value
    data = {"state": to.value, "attempt": job.attempt, **(data or {})}
    events.append(session, job, message, type="state", data=data)
    events.notify(session, job.id)


def _finish(
    session: Session,
    job: JobRow,
    to: JobState,
    message: str,
    *,
    level: events.Level = "info",
    data: dict[str, Any] | None = None,
) -> None:
    require(job, to)
    _release(session, job)
    job.state = to.value
    job.finished_at = session.scalar(select(func.clock_timestamp()))
    events.append(session, job, message, type="state", level=level, data={"state": to.value, **(data or {})})
    events.notify(session, job.id)


def _illegal(job: JobRow, to: JobState) -> IllegalTransition:
    legal = ", ".join(sorted(LEGAL[S(job.state)])) or "none, it has ended"
    return IllegalTransition(
        f"Job {job.id} is {job.state} and cannot become {to.value}.", param="id", hint=f"From here: {legal}."
    )


def _ring(session: Session, job: JobRow) -> None:
    job.queued_at = session.scalar(select(func.clock_timestamp()))
    if job.kind not in DRIVEN:  # the keeper's drivers find theirs by themselves
        job.rung_at = job.queued_at
        session.add(OutboxRow(job_id=job.id, queue=job.kind))
    events.notify(session, job.id)


def _release(session: Session, job: JobRow) -> None:
    job.lease_owner = None
    job.lease_expires_at = None
    if S(job.state) in HELD:
        _ring_for_project(session, job)


def _ring_for_project(session: Session, job: JobRow) -> None:
    """Where a project may run only so many jobs, one that ends lets another begin: ring for the oldest of each kind."""
    waiting = session.execute(
        select(JobRow.kind, JobRow.id)
        .join(ProjectRow, ProjectRow.id == JobRow.project_id)
        .where(
            JobRow.project_id == job.project_id,
            JobRow.state == S.QUEUED.value,
            JobRow.kind.not_in([kind.value for kind in DRIVEN]),
            ProjectRow.quotas.has_key("max_running_jobs"),
        )
        .distinct(JobRow.kind)
        .order_by(JobRow.kind, JobRow.queued_at)
    )
    session.add_all([OutboxRow(job_id=job_id, queue=kind) for kind, job_id in waiting])


def _extend(session: Session, job: JobRow, lease_s: float) -> None:
    job.lease_expires_at = session.scalar(select(func.clock_timestamp() + timedelta(seconds=lease_s)))


def is_final(job: JobRow) -> bool:
    """Whether the job has ended for good."""
    return S(job.state) in FINAL_STATES
